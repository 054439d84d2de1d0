package gateway

import (
	"fmt"
	"slices"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

// Moving a session from one endpoint to another. Its states at the gateway, on one endpoint:
//
//	state    what the gateway has said    packets up               packets down
//	closed   nothing, or CLOSE            open it                  dropped
//	open     OPEN                         its lane                 delivered
//	opening  OPEN resumed, no ATTACHED    its new lane             delivered, if they come over that
//	moving   CLOSE(moved), no CLOSED      held for the next one    delivered
//	holding  nothing yet                  held                     dropped
//
// A session that is moving on one endpoint is holding on another, until CLOSED has come, the time is up, or the lane is lost.
// Then OPEN goes to the new one, with the state that came with CLOSED, and what was held behind it. Between two backends nothing
// is lost, doubled or reordered that way. A plain endpoint knows none of this: a session leaves it at once, and what still comes
// from it is delivered for a second.
const (
	moveTimeout = 2 * time.Second // for a backend to answer CLOSE(moved)
	moveShare   = 256 << 10       // bytes that may be held for one session

	evacuateDelay = 10 * time.Millisecond
)

// move is a session on its way. It is guarded by session.mu.
type move struct {
	from    *opening
	to      *Endpoint
	state   []byte // from HANDOFF
	held    []*forward
	waiting int // bytes of held
	timer   *time.Timer
}

// lastMove is where a session was moved last: Forwards to where it came from follow for a second.
type lastMove struct {
	from, to *Endpoint
	at       int64 // nanoseconds since the gateway's start
}

// roaming is what is known of a session's moves.
type roaming struct {
	moves []*move    // that are under way, one a name at the most
	last  []lastMove // one for each name
}

func (s *session) roamLocked() *roaming {
	if s.roaming == nil {
		s.roaming = &roaming{}
	}
	return s.roaming
}

func (s *session) movesLocked() []*move {
	if s.roaming == nil {
		return nil
	}
	return s.roaming.moves
}

// MoveConn moves conn to dest, from the endpoint that it is bound to under dest's name: later packets go to dest, in order, and
// dest may send to it. From a backend its state goes with it, and nothing is lost, doubled or reordered. A conn that is bound to
// none is bound to dest, and a backend there opens it, without a packet. It returns at once. Errors: ErrConnectionNotFound,
// ErrEndpointNotExists for an endpoint that the gateway doesn't know, ErrNoLink for a dead one, ErrLinkFull.
func (g *Gateway) MoveConn(conn *server.Conn, dest *Endpoint) error {
	s := g.sessionOf(conn)
	switch {
	case s == nil:
		return ErrConnectionNotFount
	case dest == nil || dest.gw.Load() != g:
		return ErrEndpointNotExists
	case !dest.usable():
		return fmt.Errorf("move to %s at %s: %w", dest.name, dest.address, ErrNoLink)
	}
	g.askAttributes(s, conn, dest)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.goneLocked() {
		return ErrConnectionNotFount
	}
	if bound := s.boundLocked(dest.name); bound != nil {
		s.moveLocked(bound, dest, nil)
		return nil
	}
	s.bindLocked(dest)
	return dest.announce(s.openingPacketLocked(dest))
}

// move takes the session from source to dest, if it is bound to source.
func (s *session) move(source, dest *Endpoint, state []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.goneLocked() {
		return false
	}
	if !slices.Contains(s.bindings, source) {
		return false
	}
	s.moveLocked(source, dest, state)
	return true
}

// goneLocked reports whether there is nothing left to move: the client has left, or was closed and is about to.
func (s *session) goneLocked() bool { return s.ended || s.leaving || s.conn.IsClosed() }

// moveLocked begins to move a session that is bound to source.
func (s *session) moveLocked(source, dest *Endpoint, state []byte) {
	if source == dest {
		return
	}
	s.unbindLocked(source)
	s.bindLocked(dest)
	s.noteMoveLocked(source, dest)
	for _, mv := range s.movesLocked() {
		if mv.to == source { // it is on its way there already, and ends up at dest
			mv.to = dest
			return
		}
	}
	o := s.findLocked(source)
	switch {
	case o == nil:
		s.arriveLocked(dest, nil)
	case o.attach.Load() == 0: // a plain endpoint
		o.left.Store(s.gw.now())
		s.arriveLocked(dest, state)
	case o.lane.Load() == nil: // a dead backend
		s.dropOpeningLocked(o, causeMoved)
		s.arriveLocked(dest, state)
	default:
		s.departLocked(o, dest, state)
	}
}

// noteMoveLocked remembers the move, for Forwards that still name where the session was: the last one of each name.
func (s *session) noteMoveLocked(from, to *Endpoint) {
	r := s.roamLocked()
	r.last = slices.DeleteFunc(r.last, func(m lastMove) bool { return m.from.name == from.name })
	r.last = append(r.last, lastMove{from: from, to: to, at: s.gw.now()})
}

// departLocked tells a backend that the session goes elsewhere, and holds what is to go there until that has answered.
func (s *session) departLocked(o *opening, dest *Endpoint, state []byte) {
	mv := &move{from: o, to: dest, state: state}
	mv.timer = time.AfterFunc(moveTimeout, func() {
		s.gw.counts.add(movesTimedOut)
		s.arrive(mv, nil)
	})
	r := s.roamLocked()
	r.moves = append(r.moves, mv)
	o.moving.Store(true)
	o.endpoint.closeOpening(o, causeMoved)
}

// holdLocked keeps a packet until the session has arrived, and reports false if it doesn't have to wait.
func (s *session) holdLocked(e *Endpoint, f *forward) (bool, error) {
	moves := s.movesLocked()
	i := slices.IndexFunc(moves, func(mv *move) bool { return e == mv.to || e == mv.from.endpoint })
	if i < 0 {
		return false, nil
	}
	mv := moves[i]
	if mv.waiting+len(f.data) > moveShare && len(mv.held) > 0 {
		return false, ErrMoving
	}
	f.endpoint = mv.to
	mv.held = append(mv.held, f)
	mv.waiting += len(f.data)
	return true, nil
}

// arrive ends a move: the session leaves its old endpoint, is opened on the new one with state, and what was held goes there.
func (s *session) arrive(mv *move, state []byte) {
	dest := s.destination(mv)
	if dest != nil {
		s.gw.askAttributes(s, s.conn, dest)
	}
	for _, f := range s.arriveWith(mv, dest, state) {
		f.fail(f.data[headerSize:], f.failure)
		f.giveBack()
	}
}

// destination is where a move ends: where it was meant to, or, if that died meanwhile, on another endpoint of that name. nil:
// there is none.
func (s *session) destination(mv *move) *Endpoint {
	s.mu.Lock()
	to := mv.to
	s.mu.Unlock()
	if to.usable() {
		return to
	}
	other, err := s.gw.GetEndpoint(to.name)
	if err != nil {
		return nil
	}
	return other
}

// arriveWith returns the held packets that could not be sent, each with its failure.
func (s *session) arriveWith(mv *move, dest *Endpoint, state []byte) (failed []*forward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.movesLocked(), mv) {
		return nil
	}
	s.roaming.moves = slices.DeleteFunc(s.roaming.moves, func(other *move) bool { return other == mv })
	mv.timer.Stop()
	s.forgetLocked(mv.from)
	if mv.to.usable() {
		dest = mv.to // which may have changed meanwhile
	}
	if len(state) == 0 {
		state = mv.state
	}
	err := ErrNoLink
	if dest != nil {
		s.unbindLocked(mv.to)
		s.bindLocked(dest)
		s.noteMoveLocked(mv.from.endpoint, dest)
		err = s.arriveLocked(dest, state)
	}
	for _, f := range mv.held {
		failure := err
		if err == nil {
			f.endpoint, f.opening = dest, s.openLocked(dest)
			failure = dest.send(f, s.gw.now())
		}
		if failure != nil { // else it isn't ours any more
			f.failure = failure
			failed = append(failed, f)
		}
	}
	return failed
}

// arriveLocked opens the session on an endpoint, so that it may send to it at once.
func (s *session) arriveLocked(dest *Endpoint, state []byte) error {
	f := s.openingPacketLocked(dest)
	if f.opening.attach.Load() == 0 && len(state) > 0 {
		f.opening.handed.Store(&state)
	}
	return dest.announce(f)
}

// openingPacketLocked stands for the client's next packet, where there is none yet.
func (s *session) openingPacketLocked(e *Endpoint) *forward {
	return &forward{gw: s.gw, endpoint: e, opening: s.openLocked(e), conn: s.conn.View()}
}

// abandonLocked ends the moves of a session that ends, and returns what was held.
func (s *session) abandonLocked() (held []*forward) {
	for _, mv := range s.movesLocked() {
		mv.timer.Stop()
		held = append(held, mv.held...)
	}
	s.roaming = nil
	return held
}

// moveFromLocked returns the move that waits for the word of an endpoint, nil if none does.
func (s *session) moveFromLocked(e *Endpoint) *move {
	for _, mv := range s.movesLocked() {
		if mv.from.endpoint == e {
			return mv
		}
	}
	return nil
}

// onClosed handles CLOSED: the old backend has said its last word.
func (g *Gateway) onClosed(l *link, key uint64, attach uint32, state []byte) {
	s, o := g.openingOn(l, key)
	if o == nil {
		return
	}
	s.mu.Lock()
	mv := s.moveFromLocked(l.endpoint)
	s.mu.Unlock()
	if mv == nil || mv.from != o || attach != o.attach.Load() { // of a time that is past
		g.counts.add(controlStray)
		return
	}
	s.arrive(mv, append([]byte(nil), state...))
}

// handoff moves a session to an endpoint of the name that its backend gives.
func (g *Gateway) handoff(l *link, key uint64, name string, state []byte) {
	s, o := g.openingOn(l, key)
	if o == nil {
		return
	}
	dest := g.elsewhere(l.endpoint, name)
	if dest == nil {
		g.counts.add(handoffsFailed)
		g.log.Warn("handoff failed: no such endpoint", "conn", s.conn.GetID(), "from", l.endpoint.address, "to", name)
		return
	}
	g.askAttributes(s, s.conn, dest)
	s.move(l.endpoint, dest, append([]byte(nil), state...))
}

// elsewhere chooses an endpoint of a name that is not e, nil if there is none.
func (g *Gateway) elsewhere(e *Endpoint, name string) *Endpoint {
	for range 8 { // a selector may insist on e
		dest, err := g.GetEndpoint(name)
		if err != nil {
			return nil
		}
		if dest != e {
			return dest
		}
	}
	for _, dest := range (*g.names.Load())[name] {
		if dest != e && dest.usable() {
			return dest
		}
	}
	return nil
}

// evacuateSoon evacuates when whoever opens a session on a leaving backend is done with that.
func (g *Gateway) evacuateSoon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.evacuator == nil {
		g.evacuator = time.AfterFunc(evacuateDelay, g.evacuate)
	} else {
		g.evacuator.Reset(evacuateDelay)
	}
}

// evacuate moves every session off the endpoints whose backends are leaving, as far as there is somewhere to go.
func (g *Gateway) evacuate() {
	for e := range g.Endpoints() {
		if backendState(e.backend.Load()) != backendLeaving {
			continue
		}
		for _, s := range e.sessions() {
			dest := g.elsewhere(e, e.name)
			if dest == nil {
				break
			}
			g.askAttributes(s, s.conn, dest)
			if !s.move(e, dest, nil) {
				s.part(e) // it is bound to another one, and was only forwarded here
			}
		}
	}
}
