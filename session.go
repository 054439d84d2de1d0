package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	// moveGrace is how long after a move the old endpoint's replies are still delivered, and Forwards to it follow the move.
	moveGrace = time.Second
	// sessionShare is how many bytes one session may have waiting in a link's queue.
	sessionShare = 256 << 10
)

// session is a client as endpoints see it.
type session struct {
	gw   *Gateway // static, as are the next three
	key  uint64
	conn *server.Conn // some view of the client's connection
	loop *loop.Loop   // that the client is on, nil: none

	attributes atomic.Pointer[[]byte] // for OPEN; nil: not asked for yet

	mu       sync.Mutex // guards the rest; taken before Endpoint.mu
	leaving  bool       // the client has gone: it may still be forwarded for, but nothing is delivered to it any more
	ended    bool
	running  int32         // deliveries whose handlers are running
	idle     chan struct{} // closed when running is 0 again, for those who wait for it; nil: nobody does
	bindings []*Endpoint   // which endpoint the session is on, for each of their names; the first in binding
	openings []*opening    // the first in opening
	binding  [1]*Endpoint  // most sessions have one, and its memory beside the rest
	opening  [1]*opening
	roaming  *roaming // nil: it was never moved
	flow     flow
}

// opening is a session on one endpoint: it was forwarded there, and until the client leaves or is moved away that
// endpoint may send to it.
type opening struct {
	session  *session  // static, as is the next
	endpoint *Endpoint // static
	lane     atomic.Pointer[link]
	pending  atomic.Int64 // bytes forwarded and not yet written
	asked    atomic.Int64 // when the first packet left that is not answered yet, nanoseconds since the gateway's start; 0: none
	left     atomic.Int64 // when it was moved away, the same; 0: it wasn't
	batch    uint64       // link.batch of the delivery before; guarded by session.mu

	// Of a session on a backend that speaks the session protocol.
	attach            atomic.Uint32          // number of the last OPEN; 0: none was sent
	kindWritten       atomic.Uint32          // WebSocket type that the backend was told last
	written, received atomic.Uint64          // packets handed to the kernel, and delivered
	resuming          atomic.Bool            // OPEN, resumed, was sent, and ATTACHED has not come
	handed            atomic.Pointer[[]byte] // state for OPEN, until its backend has answered; nil: none
	cause             atomic.Uint32          // of its CLOSE, where it isn't the client's leaving

	groups map[string]struct{} // guarded by groups.mu of its lane

	moving atomic.Bool // CLOSE(moved) was sent

	kind   uint8   // WebSocket type of what was queued last; guarded by session.mu
	place  int32   // in Endpoint.openings, below 0: it was detached; guarded by Endpoint.mu, as is the next
	losses *losses // nil: it was never resumed
}

// losses is what lost links did not bring.
type losses struct {
	sentThen, gotThen uint64 // written and received at the last resumed OPEN
	up, down          uint64 // packets, so far
}

// sessionOf returns the gateway's session for conn, nil if there is none.
func (g *Gateway) sessionOf(conn *server.Conn) *session {
	if conn == nil {
		return nil
	}
	if s, ok := conn.Attachment().(*session); ok && s.gw == g {
		return s
	}
	return nil
}

// openSession makes a session for a client that has come.
func (g *Gateway) openSession(conn *server.Conn) {
	s := &session{gw: g, conn: conn, loop: conn.Loop()}
	s.bindings, s.openings = s.binding[:0], s.opening[:0]
	g.keys.add(s, conn.RemoteAddr())
	conn.SetAttachment(s)
	g.counts.add(connsOpened)
}

// closeSession ends the session of a client that has left, everywhere.
func (g *Gateway) closeSession(conn *server.Conn) {
	s := g.sessionOf(conn)
	if s == nil {
		return
	}
	for _, f := range g.endSession(s) {
		f.fail(f.data[headerSize:], ErrConnectionNotFount)
		f.giveBack()
	}
}

// endSession returns what was held for a move.
func (g *Gateway) endSession(s *session) []*forward {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	held := s.abandonLocked()
	s.flow.stop()
	for _, e := range s.bindings {
		e.bound.Add(-1)
	}
	cause := causeLeft
	if g.winding.Load() {
		cause = causeGoaway
	}
	for _, o := range s.openings {
		o.endpoint.closeOpening(o, cause)
	}
	s.bindings, s.openings = nil, nil
	g.keys.remove(s)
	g.counts.add(connsClosed)
	return held
}

// boundTo returns the endpoint that the session is on under name, nil if none.
func (s *session) boundTo(name string) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boundLocked(name)
}

func (s *session) boundLocked(name string) *Endpoint {
	for _, e := range s.bindings {
		if e.name == name {
			return e
		}
	}
	return nil
}

func (s *session) bindLocked(e *Endpoint) {
	for i, bound := range s.bindings {
		if bound.name != e.name {
			continue
		}
		if bound != e {
			bound.bound.Add(-1)
			s.bindings[i] = e
			e.bound.Add(1)
		}
		return
	}
	s.bindings = append(s.bindings, e)
	e.bound.Add(1)
}

// beginDelivery returns the session's opening for one packet that came over l, nil if l may not send to it, or gone if the
// client has left, and whether it is the first one of what the link has read at once. endDelivery has to follow where it is not nil. only is the one opening that will do, nil: any.
func (s *session) beginDelivery(l *link, only *opening) (o *opening, first, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return nil, false, true
	}
	o = s.findLocked(l.endpoint)
	if o == nil || only != nil && o != only || l.session && !o.on(l) {
		return nil, false, false
	}
	if left := o.left.Load(); left != 0 && s.gw.now()-left > int64(moveGrace) {
		return nil, false, false
	}
	s.running++
	first = o.batch != l.batch
	o.batch = l.batch
	return o, first, false
}

func (s *session) endDelivery() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// silenceSession ends deliveries to a client that has left, and waits for those under way: what follows are its closed handlers.
func (g *Gateway) silenceSession(conn *server.Conn) {
	s := g.sessionOf(conn)
	if s == nil {
		return
	}
	s.mu.Lock()
	s.leaving = true
	if s.running > 0 {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

func (s *session) findLocked(e *Endpoint) *opening {
	for _, o := range s.openings {
		if o.endpoint == e {
			return o
		}
	}
	return nil
}

// openLocked returns the session's opening on e, a new one where there is none or where it was moved away.
func (s *session) openLocked(e *Endpoint) *opening {
	if o := s.findLocked(e); o != nil {
		if o.left.Load() != 0 {
			o.left.Store(0)
		}
		return o
	}
	o := &opening{session: s, endpoint: e}
	e.attach(o)
	s.openings = append(s.openings, o)
	return o
}

// redirectLocked returns where a packet for e goes: to the endpoint that the session was just moved to, if it was and
// that one lives.
func (s *session) redirectLocked(e *Endpoint) *Endpoint {
	if s.roaming == nil {
		return e
	}
	for _, m := range s.roaming.last {
		if e == m.from && m.to.usable() && s.gw.now()-m.at <= int64(moveGrace) {
			return m.to
		}
	}
	return e
}

// forward sends f to e, or says why not.
func (s *session) forward(e *Endpoint, f *forward) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return ErrConnectionNotFount
	}
	e = s.redirectLocked(e)
	if held, err := s.holdLocked(e, f); held || err != nil {
		return err
	}
	f.endpoint = e
	if !e.usable() {
		return ErrNoLink
	}
	// Bind and open before sending: a fast endpoint can answer before Enqueue returns.
	s.bindLocked(e)
	f.opening = s.openLocked(e)
	return e.send(f, s.gw.now())
}

// unbindLocked ends the session's binding to e.
func (s *session) unbindLocked(e *Endpoint) {
	before := len(s.bindings)
	s.bindings = slices.DeleteFunc(s.bindings, func(bound *Endpoint) bool { return bound == e })
	e.bound.Add(int64(len(s.bindings) - before))
}

// forgetLocked ends the session on one endpoint, without a word to it.
func (s *session) forgetLocked(o *opening) {
	o.endpoint.detach(o)
	s.openings = slices.DeleteFunc(s.openings, func(other *opening) bool { return other == o })
}

// dropOpeningLocked ends the session on one endpoint, and its binding there.
func (s *session) dropOpeningLocked(o *opening, cause closeCause) {
	e := o.endpoint
	e.closeOpening(o, cause)
	s.openings = slices.DeleteFunc(s.openings, func(other *opening) bool { return other == o })
	s.unbindLocked(e)
}

// part ends the session on an endpoint that the gateway gives up, as long as that can be told.
func (s *session) part(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.findLocked(e); o != nil && !o.moving.Load() {
		s.dropOpeningLocked(o, causeLeft)
	}
}

// leave forgets an endpoint, without a word to it: the gateway gives it up, or it doesn't know the session any more.
func (s *session) leave(e *Endpoint) {
	if mv := s.leaveEndpoint(e); mv != nil {
		s.arrive(mv, nil)
	}
}

// leaveEndpoint returns the move that has nothing to wait for now.
func (s *session) leaveEndpoint(e *Endpoint) *move {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mv := s.moveFromLocked(e); mv != nil {
		return mv
	}
	if o := s.findLocked(e); o != nil {
		s.forgetLocked(o)
		s.unbindLocked(e)
	}
	return nil
}
