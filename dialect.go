package gateway

import (
	"errors"
	"fmt"
	"time"
)

var (
	errOtherBackend = errors.New("gateway: another backend has taken the endpoint's place")
	errSlowBackend  = fmt.Errorf("%w: taken for a plain endpoint, it spoke up late", ErrHandshake)
)

// What an endpoint knows about the backend behind its links, and what becomes of its sessions when that changes.

// meet takes note of the backend that a link has reached. If it is another one than before, the sessions of that one are
// gone, and with them the links that still lead there.
func (e *Endpoint) meet(l *link) {
	e.mu.Lock()
	other := e.peer != (instanceID{}) && e.peer != l.peer
	e.peer = l.peer
	var stale []*link
	if other {
		stale = append(stale, e.links...)
		e.debts = nil
	}
	e.mu.Unlock()
	if !other {
		return
	}
	for _, old := range stale {
		old.cli.Abort(errOtherBackend)
	}
	for _, s := range e.sessions() {
		s.leave(e)
	}
	e.gw.Load().log.Info("another backend, sessions opened anew", "endpoint", e.name, "address", e.address, "backend", l.peerName)
}

// A pool's links have so long to come back, so that sessions are spread over all of them: half the reconnect interval, whose
// jitter sets them apart, within these bounds.
const (
	shortResumeDelay = 200 * time.Millisecond
	longResumeDelay  = 2 * time.Second
)

// resumeSoon takes up the sessions that were open before all links were lost, and do not send anything by themselves.
func (e *Endpoint) resumeSoon() {
	e.mu.Lock()
	defer e.mu.Unlock()
	delay := min(max(e.reconnect/2, shortResumeDelay), longResumeDelay)
	if len(e.links) == e.poolSize {
		delay = 0
	}
	switch {
	case e.dialect != dialectSession:
	case e.resumer == nil:
		e.resumer = time.AfterFunc(delay, e.resumeSessions)
	default:
		e.resumer.Reset(delay)
	}
}

func (e *Endpoint) resumeSessions() {
	for _, o := range e.openingsWithoutLane() {
		o.session.resume(o)
	}
}

func (e *Endpoint) openingsWithoutLane() (all []*opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.openings {
		if o.attach.Load() != 0 && o.lane.Load() == nil {
			all = append(all, o)
		}
	}
	return all
}

// resume takes a session up on its endpoint again, unless it is bound to another one now, or has ended.
func (s *session) resume(o *opening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := o.endpoint
	if s.ended || s.findLocked(e) != o || o.lane.Load() != nil {
		return
	}
	if bound := s.boundLocked(e.name); bound != nil && bound != e {
		s.dropOpeningLocked(o, causeLeft)
		return
	}
	_ = e.pin(o) // or with its next packet
}

// forgetDialect ends all links, l among them, because what the endpoint was taken for turned out to be wrong.
func (e *Endpoint) forgetDialect(l *link) {
	e.mu.Lock()
	links := append([]*link{l}, e.links...)
	e.mu.Unlock()
	for _, each := range links {
		each.cli.Abort(errSlowBackend)
	}
}

// setBackendState notes whether the backend takes new sessions.
func (e *Endpoint) setBackendState(state backendState) {
	g := e.gw.Load()
	if backendState(e.backend.Swap(int32(state))) == state {
		g.evacuate() // it asks again
		return
	}
	g.log.Info("backend's state", "endpoint", e.name, "address", e.address, "state", state.String())
	g.rebuild()
	g.evacuate() // this one, or others to this one
}

// Draining reports whether the endpoint's backend takes no new sessions: it said so.
func (e *Endpoint) Draining() bool { return backendState(e.backend.Load()) != backendWorking }
