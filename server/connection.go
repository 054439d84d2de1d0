package server

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// WebSocket close codes (RFC 6455, section 7.4.1).
const (
	codeNormal          = 1000
	codeGoingAway       = 1001
	codeUnsupported     = 1003
	codePolicyViolation = 1008
	codeInternalError   = 1011
)

// connection is what all views of a client's connection share. What a packet needs comes first, so that it is next to each other.
type connection struct {
	srv        *Server   // static, as are the next ones up to attachment
	onLoop     *loopConn // pc, where that is on an event loop
	carried    *Carried  // of a connection without a socket of its own, which has no pc
	box        *mailbox  // nil: handlers run on the goroutine that brings events
	ownBox     bool      // box is this connection's alone
	link       bool      // it is the layer's; set once, before others know of the connection
	undecided  bool      // its first packet tells what it is; on an event loop only, and its goroutine's
	eager      bool      // pc can write without waiting
	exempt     bool      // its address doesn't count in the limits any more; the reading goroutine's
	guard      *guard    // nil: nothing to remember; the reading goroutine's
	attachment atomic.Value
	kind       atomic.Int32 // WebSocket type that the peer used last
	closing    atomic.Bool
	client     atomic.Bool  // it is online, or was
	waiting    atomic.Int64 // bytes in the mailbox
	out        outq.Queue

	pc     PacketConn // static, as are the next ones up to head; nil where carried is not
	addr   net.Addr
	id     string
	opened time.Duration // since the server was made
	head   []byte        // of the WebSocket request, nil where there was none

	mu         sync.Mutex // guards the rest
	data       map[string]any
	reason     *closeReason  // nil: an orderly end
	writerDone chan struct{} // non-nil once the writer was started
	ended      bool          // reading is over: no writer starts any more
	leaving    bool          // a carried connection's end has begun
	congestion
	timer   *time.Timer  // bounds closing
	context *connContext // nil: nobody has asked
}

// closeReason is why a connection ends from this side: what the closed event reports and what the peer is told.
type closeReason struct {
	err      error
	code     int
	text     string
	released bool // a carried client stays at its gateway
}

// requester is implemented by connections that began with an HTTP request.
type requester interface {
	requestHead() []byte
	query() url.Values
	// forget lets go of both, and what else there is.
	forget()
}

// drainer is implemented by connections that can read on when nothing of it makes sense any more.
type drainer interface {
	Drain(timeout time.Duration)
}

func newConnection(s *Server, pc PacketConn) *connection {
	var c *connection
	l, _ := pc.(*loopConn)
	switch pc := pc.(type) {
	case *loopConn:
		c = pc.c
	case *udpSession:
		c = &pc.connection
	default:
		c = &connection{}
	}
	c.srv, c.pc, c.onLoop, c.addr, c.opened = s, pc, l, pc.RemoteAddr(), time.Since(s.made)
	c.out.Bound(s.opts.queueBytes, s.opts.queuePackets)
	if e, ok := pc.(eager); ok {
		c.eager = e.canWriteNow()
	}
	end := c.end()
	if r, ok := end.(controller); ok {
		r.onControl(c)
	}
	c.out.Watch(c)
	if r, ok := end.(requester); ok {
		c.head = r.requestHead()
		c.kind.Store(frame.KindText)
		for key, values := range r.query() {
			if c.data == nil {
				c.data = map[string]any{}
			}
			if c.data[key] = values; len(values) == 1 {
				c.data[key] = values[0]
			}
		}
		if s.layer == nil {
			r.forget()
		}
	}
	return c
}

// end is what knows about the client.
func (c *connection) end() any {
	if c.onLoop != nil {
		return c.onLoop.protocol
	}
	return c.pc
}

// abandon ends a connection that the server has not taken.
func (c *connection) abandon() {
	switch pc := c.pc.(type) {
	case *loopConn:
		pc.abandon()
	case *udpSession: // its transport forgets it
	default:
		pc.Close()
	}
}

// serve reads the connection until its end. It is the connection's goroutine, and joins the others.
func (c *connection) serve() {
	defer c.srv.forget(c)
	c.holdBack()
	switch role, first, err := c.decide(); {
	case role == roleClient && c.held() == nil:
		c.serveClient(first)
	case role == roleClient:
		if c.knock(first) {
			c.serveClient(nil)
		}
	case role == roleLink:
		c.finishReading(c.readLink(first))
		c.srv.layer.Ended(c.detached(), c.outcome())
	default:
		c.letGo()
		c.finishReading(err)
	}
}

// serveClient runs the handlers of a client. first is a packet that was read already.
func (c *connection) serveClient(first *event) {
	if c.ownBox {
		go c.box.run()
		defer func() { c.box.end(); <-c.box.ended }()
	}
	c.post(event{call: func() { c.srv.handleOpened(c.detached()) }})
	if first != nil {
		c.received(first.view.wst, first.packet)
	}
	c.finishReading(c.read())
	done := make(chan struct{})
	c.post(event{call: func() {
		defer close(done)
		c.srv.handleClosed(c.detached(), c.outcome())
	}})
	<-done
}

// post lets e happen in its turn: here, or behind what waits.
func (c *connection) post(e event) {
	switch {
	case c.box != nil:
		c.box.put(e)
	case c.carried != nil:
		c.carried.turn.put(e)
	case e.call != nil:
		e.call()
	default:
		c.srv.handlePacket(e.view, e.packet)
	}
}

func (c *connection) read() error {
	batch := c.gatherWhileReading()
	defer batch.end()
	for {
		kind, packet, err := c.pc.ReadPacket()
		if err != nil {
			return err
		}
		batch.more()
		c.received(kind, packet)
	}
}

// received counts a client's packet, and lets it happen in its turn.
func (c *connection) received(kind int, packet []byte) {
	if c.heard(kind, packet) {
		// A view of its own for each packet: a handler may have kept the last one, and what this packet's handlers set
		// must not show there.
		c.deliver(c.messageView(kind), packet)
	}
}

// heard counts a client's packet, and reports whether it is to be handled.
func (c *connection) heard(kind int, packet []byte) bool {
	c.srv.stats.received.Add(1)
	if c.closing.Load() {
		c.srv.stats.discarded.Add(1)
		return false
	}
	if c.tooFast(len(packet)) {
		c.srv.stats.discarded.Add(1)
		return false
	}
	if len(packet) > c.srv.opts.warnSize {
		c.srv.log().Warn("large packet received", "conn", c.id, "bytes", len(packet))
	}
	c.kind.Store(int32(kind))
	return true
}

func (c *connection) deliver(view *Conn, packet []byte) {
	if g := c.held(); g != nil {
		g.hold(view, packet)
		return
	}
	if c.box == nil && c.carried == nil {
		c.srv.handlePacket(view, packet)
		return
	}
	if c.box == nil && c.carried.turn.begin() {
		c.srv.handlePacket(view, packet)
		c.carried.turn.rest()
		return
	}
	if c.waits(packet) {
		c.post(event{view: view, packet: packet})
	}
}

// waits counts a packet that has to wait, and reports whether there is room for it. If not, the connection is closed.
func (c *connection) waits(packet []byte) bool {
	size := int64(mailboxSize(packet))
	if c.waiting.Add(size) <= mailboxBytes || c.waiting.Load() <= size {
		return true
	}
	c.waiting.Add(-size)
	c.srv.stats.discarded.Add(1)
	if c.forgeable() {
		return false
	}
	c.srv.stats.mailbox.Add(1)
	c.close(closeReason{err: ErrMailboxFull, code: codePolicyViolation, text: "too many packets"})
	return false
}

// detached returns a view that is no message's, with the type that the peer used last: what one caller changes in it
// shows neither in a message's view nor in another caller's.
func (c *connection) detached() *Conn { return newConn(c, int(c.kind.Load())) }

func (c *connection) ending() bool { return c.closing.Load() }

// finish reports a packet's outcome to its callback.
func (c *connection) finish(p *frame.Packet, err error) {
	if !c.link && p.Type() < frame.KindClose { // what a link carries is counted where it comes from
		c.countWritten(err)
	}
	c.guardCallback(func() { p.Finish(err) })
}

// wrote reports the outcome of a carried packet to its callback, nil: none.
func (c *connection) wrote(done func(error), err error) {
	c.countWritten(err)
	if done != nil {
		c.guardCallback(func() { done(err) })
	}
}

func (c *connection) countWritten(err error) {
	if err == nil {
		c.srv.stats.written.Add(1)
	} else {
		c.srv.stats.failed.Add(1)
	}
}

func (c *connection) guardCallback(f func()) {
	hook.Guard(f, func(value any, stack []byte) {
		c.srv.stats.panics.Add(1)
		c.srv.log().Error("write callback panicked", "conn", c.id, "panic", value, "stack", string(stack))
	})
}
