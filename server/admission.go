package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/hook"
)

// DefaultAdmissionDeadline is how long admission may take, unless WithAdmission says otherwise.
const DefaultAdmissionDeadline = 10 * time.Second

// Admission decides about a client by the first packet it sends, a login or a ticket: nil lets it in. It may block, and is called on a
// goroutine that has nothing else to do. conn is not online, and fires no events: the function may keep what it finds out by SetData,
// where handlers and gateway.WithOpenAttributes have it, and answer by Write. conn.Context ends with the deadline, or when the client
// has left, where that is noticed. It owns first, which no handler gets to see.
type Admission func(conn *Conn, first []byte) error

// WithAdmission holds each client back until admit has let it in: until then there is no opened event, it isn't online, and a gateway's
// endpoints don't hear of it. What the client sends meanwhile waits, in order: up to 256 KiB of it (ErrMailboxFull) on event loops, in
// the network elsewhere. deadline is for all of it, the first packet and the function, from when the connection was handed over; what
// the client sends doesn't extend it. 0 or less: DefaultAdmissionDeadline. nil: no admission, the default.
//
// A client that isn't let in gets what the function wrote and is closed, 1008, with a reason that doesn't show the function's error:
// the log and the connection's context have that. To tell it why, call conn.CloseWith, and return an error all the same. Over UDP what
// comes from its address is dropped for a second then. The outcome counts as RefusedAdmission, also after a panic, or as
// RefusedAdmissionTime, ErrNotAdmitted. A function that returns after the deadline changes nothing, but its connection counts in the
// limits until then, so that there are never more of them running than WithMaxConnections; Shutdown waits for them as for handlers.
// Links are not asked, nor are clients behind gateways, whom their gateway has let in.
func WithAdmission(admit Admission, deadline time.Duration) Option {
	return func(s *Server) {
		if deadline <= 0 {
			deadline = DefaultAdmissionDeadline
		}
		s.opts.admit, s.opts.admitWithin = admit, deadline
	}
}

// gate holds a connection back until it is let in.
type gate struct {
	c       *connection
	asked   bool    // owned by the goroutine that reads, as is the next
	waiting []event // the packets behind the first

	mu      sync.Mutex // guards the rest
	decided bool       // first decision wins: the function's, the deadline's, or the client's, who has left
	asking  bool       // the function is running, on an event loop's behalf
	gone    bool       // the connection has ended
	timer   *time.Timer
}

// holdBack begins a connection's admission, if there is one.
func (c *connection) holdBack() {
	if c.srv.opts.admit == nil {
		return
	}
	g := &gate{c: c}
	c.guarded().gate = g
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer = time.AfterFunc(c.srv.opts.admitWithin, g.expire)
}

// held returns what holds the connection back, nil if nothing does.
func (c *connection) held() *gate {
	if c.guard == nil {
		return nil
	}
	return c.guard.gate
}

// letGo ends what holds the connection back, whatever it is.
func (c *connection) letGo() {
	if g := c.held(); g != nil {
		g.decide()
		c.guard.gate = nil
	}
}

// decide reports whether nothing was decided before.
func (g *gate) decide() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.decideLocked()
}

func (g *gate) decideLocked() bool {
	if g.decided {
		return false
	}
	g.decided = true
	g.timer.Stop()
	return true
}

// decideForServer is decide for a goroutine that the server waits for then. The connection doesn't end before it knows of a decision, and
// so the server waits still.
func (g *gate) decideForServer() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.decideLocked() {
		return false
	}
	g.c.srv.serving.Add(1)
	return true
}

// ask asks the function about the first packet, and reports whether the connection is let in.
func (g *gate) ask(view *Conn, first []byte) bool {
	err := g.verdict(view, first)
	if !g.decide() {
		return false
	}
	if err == nil {
		return !g.c.ending()
	}
	g.c.srv.refuse(RefusedAdmission, g.c.addr, "err", err) // first: the client may look at the counter
	g.c.close(closeReason{err: fmt.Errorf("%w: %w", ErrNotAdmitted, err), code: codePolicyViolation, text: string(RefusedAdmission)})
	return false
}

func (g *gate) verdict(view *Conn, first []byte) (err error) {
	s := g.c.srv
	defer s.watch(view, "Admission")()
	hook.Guard(func() { err = s.opts.admit(view, first) }, func(value any, stack []byte) {
		s.stats.panics.Add(1)
		s.log().Error("admission panicked", "conn", g.c.id, "panic", value, "stack", string(stack))
		err = fmt.Errorf("%w: %v", ErrHandlerPanic, value)
	})
	return err
}

// expire is the deadline.
func (g *gate) expire() {
	if !g.decideForServer() {
		return
	}
	defer g.c.srv.serving.Done()
	if g.c.ending() {
		return
	}
	g.c.srv.refuse(RefusedAdmissionTime, g.c.addr)
	g.c.close(closeReason{err: ErrNotAdmitted, code: codePolicyViolation, text: string(RefusedAdmissionTime)})
}

// knock waits for a client's admission on the goroutine that reads, and reports whether it was let in; if not, the connection has
// ended. first is a packet that was read already.
func (c *connection) knock(first *event) bool {
	defer c.letGo()
	if first == nil {
		kind, packet, err := c.pc.ReadPacket()
		if err != nil {
			c.letGo()
			c.finishReading(err)
			return false
		}
		first = &event{view: newConn(c, kind), packet: packet}
	}
	c.held().asked = true
	if c.heard(first.view.wst, first.packet) && c.held().ask(first.view, first.packet) {
		c.srv.admit(c)
		return true
	}
	c.finishReading(c.read()) // until the client has read why
	return false
}

// hold takes a packet of a connection on an event loop. The function can't run there: it gets a goroutine.
func (g *gate) hold(view *Conn, packet []byte) {
	if g.asked {
		if g.c.waits(packet) {
			g.waiting = append(g.waiting, event{view: view, packet: packet})
		}
		return
	}
	g.asked = true
	g.mu.Lock()
	g.asking = true
	g.mu.Unlock()
	g.c.srv.serving.Go(func() {
		defer g.answered()
		if g.ask(view, packet) {
			g.c.inTurn(g.letIn)
		}
	})
}

// letIn makes a client of the connection, on its event loop, unless it has ended meanwhile.
func (g *gate) letIn() {
	c := g.c
	if c.held() != g || c.ending() {
		return
	}
	c.letGo()
	c.srv.admit(c)
	c.openClient()
	for _, e := range g.waiting {
		if c.box != nil {
			c.box.put(e)
		} else {
			e.happen()
		}
	}
}

// answered notes that the function has returned.
func (g *gate) answered() {
	g.mu.Lock()
	g.asking = false
	gone := g.gone
	g.mu.Unlock()
	if gone {
		g.c.srv.forget(g.c)
	}
}

// leaveGate notes that a connection on an event loop has ended that was never let in, and reports whether nobody is at work on it.
func (c *connection) leaveGate() bool {
	g := c.held()
	if g == nil {
		return true
	}
	c.letGo()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	return !g.asking
}
