package server

import (
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Carrier carries the packets of a connection that has no socket of its own: a client behind a gateway. Its methods are
// called from any goroutine, and must not block.
type Carrier interface {
	// Write sends packet, which it must copy, as the WebSocket type kind (0: the client's last). If it returns an error
	// nothing was sent; else done, which may be nil, is called exactly once.
	Write(kind int, packet []byte, done func(err error)) error
	// Close tells the gateway that the connection was closed on this side. It is called once, unless End came first.
	// farewell says how.
	Close(farewell Farewell)
}

// Farewell is how a carried connection was closed on this side.
type Farewell struct {
	Code     int // what the client is told; 0: a normal end
	Reason   string
	Released bool // the client stays at the gateway
}

// Carried is the end of a connection at which its packets come in. Its methods may be called from any goroutine; those
// that run handlers do so in the caller's goroutine, unless another one is running handlers of the same connection.
type Carried struct {
	c         *connection
	congested atomic.Bool
}

// CarriedOptions describe a carried connection.
type CarriedOptions struct {
	ID   string
	Addr net.Addr          // the client's
	Data map[string]string // what GetData has from the start
	Kind int               // the WebSocket type of what is written before the first packet
}

// Carry adds a connection without a socket, and runs its opened handlers. It returns ErrServerClosed while the server
// isn't running.
func (s *Server) Carry(carrier Carrier, o CarriedOptions) (*Carried, error) {
	c := &connection{srv: s, carrier: carrier, addr: o.Addr, openedAt: time.Now()}
	c.kind.Store(int32(o.Kind))
	for name, value := range o.Data {
		c.data = set(c.data, name, value)
	}
	s.mu.Lock()
	if !s.accepting {
		s.mu.Unlock()
		s.stats.refused.Add(1)
		return nil, ErrServerClosed
	}
	c.id = o.ID
	if s.online[c.id] != nil || s.apart[c.id] != nil {
		s.serial++
		c.id += "#" + strconv.FormatUint(s.serial, 10)
	}
	if s.giveBoxLocked(c); c.box == nil {
		c.turn = &turn{}
	}
	s.admitLocked(c)
	s.serving.Add(1)
	if c.ownBox {
		s.serving.Go(c.box.run)
	}
	s.mu.Unlock()
	v := &Carried{c: c}
	c.carried = v
	c.post(event{call: func() { s.handleOpened(c.detached()) }})
	return v, nil
}

// Conn returns a view of the connection that is no message's.
func (v *Carried) Conn() *Conn { return v.c.detached() }

// ID returns the connection's ID.
func (v *Carried) ID() string { return v.c.id }

// Receive runs the handlers of a packet that came from the client, which owns it.
func (v *Carried) Receive(kind int, packet []byte) {
	c := v.c
	c.srv.stats.received.Add(1)
	if c.ending() {
		c.srv.stats.discarded.Add(1)
		return
	}
	if len(packet) > c.srv.opts.warnSize {
		c.srv.log().Warn("large packet received", "conn", c.id, "bytes", len(packet))
	}
	c.kind.Store(int32(kind))
	c.deliver(newConn(c, kind), packet)
}

// Congested notes whether the client's queue at the gateway is filling up, and runs the handlers of that event.
func (v *Carried) Congested(congested bool) {
	c := v.c
	if v.congested.Swap(congested) == congested || c.ending() {
		return
	}
	c.post(event{call: func() { c.srv.handleCongested(c.detached(), congested) }})
}

// End ends the connection from the client's side, and runs its closed handlers, to which it gives err. After Close it does
// nothing.
func (v *Carried) End(err error) {
	c := v.c
	if c.leave(orderly(err)) {
		c.post(event{call: c.endCarried})
	}
}

// leave begins the end of a carried connection, and reports whether that was still to be done. What waits is handled first
// unless the connection is closing.
func (c *connection) leave(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	c.leaving = true
	if !c.closing.Load() {
		c.reason.err = err
	}
	return true
}

// drop ends a carried connection from this side.
func (c *connection) drop(reason closeReason) {
	if !c.leave(nil) {
		return
	}
	c.carrier.Close(Farewell{
		Code: reason.code, Reason: reason.text,
		Released: reason.released || errors.Is(reason.err, ErrGoingAway), // a server's end is no reason to lose the client
	})
	// Not here: whoever closes may hold what the closed handlers wait for.
	c.srv.serving.Go(func() { c.post(event{call: c.endCarried}) })
}

func (c *connection) endCarried() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.closing.Store(true)
	c.srv.handleClosed(c.detached(), c.outcome())
	if c.ownBox {
		c.box.end()
	}
	c.srv.forget(c)
}

// carry sends a packet of a carried connection.
func (c *connection) carry(kind int, packet []byte, done func(error)) {
	err := error(ErrConnClosed)
	if !c.closing.Load() {
		err = frame.CheckSize(len(packet), max(maxWriteSize, c.srv.opts.queueBytes))
	}
	finish := func(err error) { c.finish(frame.NewPacket(kind, nil, done), err) }
	if err == nil {
		err = c.carrier.Write(kind, packet, finish)
	}
	if err == nil {
		return
	}
	if errors.Is(err, ErrSlowConsumer) && c.close(closeReason{err: err, code: codePolicyViolation, text: "slow consumer"}) {
		c.srv.stats.slow.Add(1)
	}
	finish(err)
}
