package server

import (
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// For layers: Carrier carries the packets of a connection that has no socket of its own, a client behind a gateway. Its methods
// are called from any goroutine, and must not block.
type Carrier interface {
	// Carried hands over the connection, before anybody else knows of it, and under a lock: it must only keep it.
	Carried(v *Carried)
	// Write sends packet, which it must copy, as the WebSocket type kind (0: the client's last). If it returns an error
	// nothing was sent; else the carrier calls Wrote exactly once, with done, which may be nil.
	Write(kind int, packet []byte, done func(err error)) error
	// Handoff asks the gateway to move the client to an endpoint called name, with state.
	Handoff(name string, state []byte) error
	// Close tells the gateway that the connection was closed on this side. It is called once, unless End came first.
	// farewell says how.
	Close(farewell Farewell)
}

// For layers: Farewell is how a carried connection was closed on this side.
type Farewell struct {
	Code     int // what the client is told; 0: a normal end
	Reason   string
	Released bool // the client stays at the gateway
}

// For layers: Carried is the end of a connection at which its packets come in. Its methods may be called from any goroutine;
// those that run handlers do so in the caller's goroutine, unless another one is running handlers of the same connection.
type Carried struct {
	c         *connection
	carrier   Carrier
	turn      turn // for several goroutines may bring events; where they go to a mailbox it is not used
	congested atomic.Bool
}

// carriedClient is all that a carried connection needs, in one piece of memory.
type carriedClient struct {
	carried Carried
	connection
}

// For layers: CarriedOptions describe a carried connection.
type CarriedOptions struct {
	ID   string
	Addr net.Addr          // the client's
	Data map[string]string // what GetData has from the start
	Kind int               // the WebSocket type of what is written before the first packet
}

// For layers: Carry adds a connection without a socket; Open has to be called next, and nothing happens on the connection
// before. It returns ErrServerClosed while the server isn't running.
func (s *Server) Carry(carrier Carrier, o CarriedOptions) (*Carried, error) {
	all := &carriedClient{
		carried:    Carried{carrier: carrier},
		connection: connection{srv: s, addr: o.Addr, opened: time.Since(s.made)},
	}
	c := &all.connection
	c.carried, all.carried.c = &all.carried, c
	c.kind.Store(int32(o.Kind))
	for name, value := range o.Data {
		c.data = set(c.data, name, value)
	}
	if err := s.addCarried(c, o.ID); err != nil {
		return nil, err
	}
	return c.carried, nil
}

// Open runs the opened handlers, and whatever else has been brought meanwhile. Where handlers run from a mailbox, they may do so
// already.
func (v *Carried) Open() {
	c := v.c
	if c.box == nil {
		v.turn.run(c.openedEvent())
	}
}

func (c *connection) openedEvent() event {
	return event{call: func() { c.srv.handleOpened(c.detached()) }}
}

// addCarried makes c known.
func (s *Server) addCarried(c *connection, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.accepting {
		s.stats.refusals.add(RefusedShutdown)
		return ErrServerClosed
	}
	if c.id = id; s.online[id] != nil || s.apart[id] != nil {
		s.serial++
		c.id += "#" + strconv.FormatUint(s.serial, 10)
	}
	c.carried.carrier.Carried(c.carried)
	if s.giveBoxLocked(c); c.box == nil {
		c.carried.turn.busy = true // what others bring waits for Open
	} else {
		c.box.put(c.openedEvent())
	}
	s.admitLocked(c)
	s.serving.Add(1)
	if c.ownBox {
		s.serving.Go(c.box.run)
	}
	return nil
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
	c.deliver(c.messageView(kind), packet)
}

// Wrote reports what became of a packet that Carrier.Write took with done: it was handed to the kernel, or err. It runs the
// user's callback in the caller's goroutine.
func (v *Carried) Wrote(done func(err error), err error) { v.c.wrote(done, err) }

// Congested notes whether the client's queue at the gateway is filling up, and runs the handlers of that event.
func (v *Carried) Congested(congested bool) {
	c := v.c
	if v.congested.Swap(congested) == congested || c.ending() {
		return
	}
	c.post(event{call: func() { c.srv.handleCongested(c.detached(), congested) }})
}

// End ends the connection from the client's side, and runs its closed handlers, to which it gives err; nil where err is io.EOF
// or net.ErrClosed. After Close it does nothing.
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
		c.endsWithLocked(err)
	}
	c.endContextLocked()
	return true
}

// Leave is End(nil) that runs f before the closed handlers, behind every packet received. It reports false, and does not run
// f, if the connection's end has begun already.
func (v *Carried) Leave(f func(conn *Conn)) bool {
	c := v.c
	if !c.leave(nil) {
		return false
	}
	c.post(event{call: func() {
		f(c.detached())
		c.endCarried()
	}})
	return true
}

// drop ends a carried connection from this side.
func (c *connection) drop(reason closeReason) {
	if !c.leave(nil) {
		return
	}
	c.carried.carrier.Close(Farewell{
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
		err = frame.CheckSize(len(packet), c.srv.maxWrite)
	}
	if err == nil {
		err = c.carried.carrier.Write(kind, packet, done)
	}
	if err == nil {
		return
	}
	if errors.Is(err, ErrSlowConsumer) && c.close(closeReason{err: err, code: codePolicyViolation, text: "slow consumer"}) {
		c.srv.stats.slow.Add(1)
	}
	c.wrote(done, err)
}
