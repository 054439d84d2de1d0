package gateway

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

// A session at its backend:
//
//	state      OPEN                OPEN resumed        data     CLOSE         Close, Release    link lost
//	closed     open                open, ATTACHED anew dropped  -             -                 -
//	open       closed, then open   attaching           handled  closed        gone              detached
//	attaching  closed, then open   attaching           kept     closed        gone              detached
//	detached   closed, then open   attaching           dropped  closed        gone              -; closed after the grace time
//	gone       open                told again          dropped  closed        -                 closed after the grace time
//
// attaching lasts until the old link has ended, for only then is it known what that one wrote; ATTACHED ends it. gone is
// a session that was closed here, until the gateway's CLOSE: what is still on the way for it is swallowed.

// peer is one gateway, seen from a backend: its sessions, whatever link they are on.
type peer struct {
	backend  *Backend // static, as are the next two
	instance instanceID
	name     string

	mu       sync.Mutex // guards the rest; taken before backsession.mu
	links    int        // that are up
	sessions map[uint64]*backsession
	gone     map[uint64]ended  // closed here
	past     map[uint64]ledger // of sessions that were not taken up in time
	leaving  bool              // it said GOAWAY
	plain    bool              // it doesn't speak the protocol
}

func (p *peer) find(key uint64) *backsession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[key]
}

// open handles OPEN.
func (p *peer) open(l *backlink, o *openBody) error {
	attributes := map[string]string{}
	if err := readAttributes(o.attributes, func(name, value string) { attributes[name] = value }); err != nil {
		return err
	}
	s := &backsession{peer: p, key: o.key, number: o.attach, link: l, handed: append([]byte(nil), o.state...)}
	s.kind.Store(int32(o.kind))
	s.last.Store(time.Now().UnixNano())
	known, fate := p.admit(s, o, attributes)
	switch fate {
	case stale:
		p.backend.stats.strayControl.Add(1)
		return nil
	case resumable:
		known.resumeWhenEnded(o)
		return nil
	case wasClosed, refused:
		return nil
	case replaced: // its end got lost
		known.end(nil)
	}
	if o.resumed {
		s.mu.Lock()
		s.reportLocked(l, o, s.received, true)
		s.mu.Unlock()
	}
	s.carried.Open()
	return nil
}

// fate is what becomes of an OPEN.
type fate int

const (
	fresh     fate = iota // a new session
	replaced              // the same, in place of one that is there
	resumable             // the session is there, and to be taken up
	stale                 // it was overtaken by a later one
	wasClosed             // it was closed here, and its gateway doesn't know yet: it is told again
	refused               // the server is shutting down
)

// admit puts s into the table and makes it a conn of the server, unless the session is there already and goes on; then, and where
// s takes its place, it returns that one.
func (p *peer) admit(s *backsession, o *openBody, attributes map[string]string) (*backsession, fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.sessions[s.key]
	gone, isGone := p.gone[s.key]
	switch {
	case known != nil && s.number <= known.attached(), isGone && s.number <= gone.number:
		return known, stale
	case known != nil && o.resumed:
		known.attach(s.link, o) // here, or it could expire in between
		return known, resumable
	case isGone && o.resumed:
		gone.number, gone.link = s.number, s.link
		p.gone[s.key] = gone
		s.link.trySend(gone.farewell)
		return nil, wasClosed
	}
	if o.resumed {
		p.recallLocked(s)
	} else {
		delete(p.past, s.key)
	}
	_, err := p.backend.srv.Carry(s, server.CarriedOptions{
		ID: fmt.Sprintf("%x/%s", p.instance[:8], clientName(o)), Addr: clientAddr(o), Data: attributes, Kind: int(o.kind),
	})
	if err != nil {
		farewell := appendKey(beginControl(false, ctlRelease, keySize), s.key)
		p.gone[s.key] = ended{s.number, s.link, farewell}
		s.link.trySend(farewell)
		return nil, refused
	}
	delete(p.gone, s.key)
	p.sessions[s.key] = s
	if known != nil {
		return known, replaced
	}
	return nil, fresh
}

// ended is a session that was closed here, until the gateway's CLOSE.
type ended struct {
	number   uint32
	link     *backlink // that it was on, nil: none
	farewell []byte    // KICK or RELEASE, which is told again if the link that took it was lost
}

// remove takes a session from the table, if it is there. farewell is what its gateway was told, nil if it knows.
func (p *peer) remove(s *backsession, farewell []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.key] == s {
		delete(p.sessions, s.key)
		if farewell != nil {
			p.gone[s.key] = s.ended(farewell)
		}
	}
}

func (p *peer) setType(l *backlink, key uint64, kind byte) {
	if s := p.find(key); s != nil && s.on(l) {
		s.kind.Store(int32(kind))
		return
	}
	p.strayControl(key)
}

func (p *peer) flow(l *backlink, key uint64, congested bool) {
	if s := p.find(key); s != nil && s.on(l) {
		s.carried.Congested(congested)
		return
	}
	p.strayControl(key)
}

// strayControl counts control for a session that is not there, unless it was just closed here.
func (p *peer) strayControl(key uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, gone := p.gone[key]; !gone {
		p.backend.stats.strayControl.Add(1)
	}
}

// close handles CLOSE, over whatever link it comes.
func (p *peer) close(l *backlink, key uint64, attach uint32, cause closeCause) {
	p.mu.Lock()
	s := p.sessions[key]
	if gone, ok := p.gone[key]; ok && attach >= gone.number {
		delete(p.gone, key)
	}
	delete(p.past, key)
	p.mu.Unlock()
	if s == nil || attach < s.attached() {
		if cause == causeMoved { // the gateway waits for it
			l.trySend(appendClosed(beginControl(false, ctlClosed, 16), key, attach, nil))
		}
		return
	}
	p.remove(s, nil)
	s.flushUp()
	if cause == causeMoved {
		s.move(l, attach)
		return
	}
	s.end(nil)
}

// goaway notes that the gateway is shutting down: its sessions end with its links.
func (p *peer) goaway() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
}

func (p *peer) linkGone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links--
}

// lost detaches the sessions of a link that has ended, and gives the gateway some time to take them up again.
func (p *peer) lost(l *backlink) {
	p.mu.Lock()
	var lost []*backsession
	for _, s := range p.sessions {
		if s.detach(l) {
			lost = append(lost, s)
		}
	}
	leaving := p.leaving || l.plain
	nothing := len(lost)+len(p.gone) == 0
	p.mu.Unlock()
	if nothing {
		return
	}
	for _, s := range lost {
		s.regroup()
	}
	if leaving {
		p.expire(l, lost)
		return
	}
	time.AfterFunc(p.backend.grace, func() { p.expire(l, lost) })
}

// expire ends those sessions that nobody has taken up since l was lost.
func (p *peer) expire(l *backlink, sessions []*backsession) {
	for _, s := range sessions {
		if p.expired(l, s) {
			s.end(errNotResumed)
		}
	}
	p.mu.Lock()
	maps.DeleteFunc(p.gone, func(_ uint64, e ended) bool { return e.link == l }) // their CLOSE was lost with it
	p.mu.Unlock()
	keep := pastGraces * p.backend.grace
	time.AfterFunc(keep, func() {
		p.mu.Lock()
		maps.DeleteFunc(p.past, func(_ uint64, l ledger) bool { return time.Since(l.at) >= keep })
		p.mu.Unlock()
		p.backend.forgetPeer(p)
	})
}

// ledger is what was counted of a session that has expired.
type ledger struct {
	received, written, lostUp, lostDown uint64
	at                                  time.Time
}

const (
	pastGraces = 10      // grace times for which the ledgers of sessions that have expired are kept
	maxPast    = 1 << 16 // of them, for each gateway
)

// expired takes a session from the table that is still detached since l was lost, and keeps its ledger: if its gateway comes back
// after all, both still know what was lost.
func (p *peer) expired(l *backlink, s *backsession) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil || s.lostLink != l || p.sessions[s.key] != s {
		return false
	}
	delete(p.sessions, s.key)
	if len(p.past) < maxPast {
		p.past[s.key] = ledger{s.received, s.written.Load(), s.lostUp, s.lostDown, time.Now()}
	}
	return true
}

// recallLocked gives a session that is opened anew the ledger of the one before.
func (p *peer) recallLocked(s *backsession) {
	if past, ok := p.past[s.key]; ok {
		delete(p.past, s.key)
		s.received, s.lostUp, s.lostDown = past.received, past.lostUp, past.lostDown
		s.written.Store(past.written)
	}
}
