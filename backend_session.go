package gateway

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// errNotResumed ends a session whose gateway was cut off for longer than the grace time.
var errNotResumed = fmt.Errorf("gateway: link lost, and the session not taken up again in time: %w", net.ErrClosed)

// backsession is a client behind a gateway, seen from a backend. It carries the packets of a *server.Conn. What a packet needs comes
// first, so that it is next to each other: of many sessions none is in the processor's cache.
type backsession struct {
	peer     *peer           // static, as is the next
	key      uint64          //
	carried  *server.Carried // set before anybody else knows of the session
	waiting  atomic.Int64    // bytes written here and not yet handed to the kernel
	written  atomic.Uint64   // packets handed to the kernel
	kind     atomic.Int32    // WebSocket type of the client's packets
	mu       sync.Mutex      // guards the next ones, up to lostDown; the packets of the session are queued under it, in order
	link     *backlink       // nil: detached
	closed   bool            // nothing is written any more
	holding  bool            // until the old link has ended
	received uint64          // packets from the gateway

	number       uint32    // of the OPEN that attached it
	lostLink     *backlink // the one that it was detached from
	oldLink      *backlink // from attach to resumeWhenEnded: the one before, nil: none
	held         []*frame.Packet
	heldUp       []upPacket // received while holding
	heldUpBytes  int        // of them
	groups       map[*Group]struct{}
	receivedThen uint64 // packets from the gateway, when the session was attached last
	lostUp       uint64 // packets that the gateway had written and that never came, so far
	lostDown     uint64 // packets written here and that never came there, so far

	handed []byte       // the state that came with OPEN; static
	last   atomic.Int64 // when a plain gateway's packet came last, Unix nanoseconds
}

var _ server.Carrier = (*backsession)(nil)

// Carried is server.Carrier's.
func (s *backsession) Carried(v *server.Carried) { s.carried = v }

func (s *backsession) attached() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.number
}

// ended returns what is kept of a session that was closed here. A session without a link was on the one that it lost.
func (s *backsession) ended(farewell []byte) ended {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := ended{s.number, s.link, farewell}
	if e.link == nil {
		e.link = s.lostLink
	}
	return e
}

// on reports whether the session is on l, nil: detached.
func (s *backsession) on(l *backlink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link == l
}

// receive handles a packet that came over l, and reports whether that is the link of the session, which is open. While the old link has not ended,
// and may be about to handle a packet of its own, it is kept.
func (s *backsession) receive(l *backlink, packet []byte) bool {
	kind := int(s.kind.Load())
	s.mu.Lock()
	mine, holding, full := s.link == l && !s.closed, s.holding, false
	if mine {
		s.received++
	}
	if mine && holding {
		s.heldUpBytes += len(packet)
		full = s.heldUpBytes > sessionShare
		s.heldUp = append(s.heldUp, upPacket{kind, packet})
	}
	s.mu.Unlock()
	switch {
	case mine && !holding:
		s.carried.Receive(kind, packet)
	case full:
		s.carried.Conn().CloseWith(codePolicyViolation, "too many packets", server.ErrMailboxFull)
	}
	return mine
}

// upPacket is a client's packet that is kept.
type upPacket struct {
	kind int
	data []byte
}

// flushUp handles what was kept.
func (s *backsession) flushUp() {
	for {
		s.mu.Lock()
		kept := s.heldUp
		s.heldUp, s.heldUpBytes = nil, 0
		s.mu.Unlock()
		if len(kept) == 0 {
			return
		}
		for _, p := range kept {
			s.carried.Receive(p.kind, p.data)
		}
	}
}

// Close is server.Carrier's.
func (s *backsession) Close(f server.Farewell) {
	held, open := s.shut()
	if !open {
		return
	}
	farewell := appendKey(beginControl(false, ctlRelease, keySize), s.key)
	if !f.Released {
		farewell = appendKick(beginControl(false, ctlKick, 16+len(f.Reason)), s.key, f.Code, f.Reason)
	}
	s.peer.remove(s, farewell)
	s.regroup()
	s.tell(farewell)
	finishAll(held, server.ErrConnClosed)
}

// shut makes writes fail from now on, and returns what was held, unless that has been done.
func (s *backsession) shut() (held []*frame.Packet, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	held = s.held
	s.closed, s.held = true, nil
	return held, true
}

// regroup brings the session's groups up to date about where it is.
func (s *backsession) regroup() {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.groups))
	s.mu.Unlock()
	for _, g := range all {
		g.place(s)
	}
}

// end ends the session from the gateway's side. It must have been removed.
func (s *backsession) end(err error) {
	if held, open := s.shut(); open {
		s.regroup()
		finishAll(held, server.ErrConnClosed)
		s.carried.End(err)
	}
}

// move ends the session because it goes on elsewhere, with the state that the user's code gives it.
func (s *backsession) move(l *backlink, attach uint32) {
	answer := func(state []byte) {
		held, _ := s.shut()
		s.regroup()
		l.trySend(appendClosed(beginControl(false, ctlClosed, 16+len(state)), s.key, attach, state)) // behind what was written
		finishAll(held, server.ErrConnClosed)
	}
	if !s.carried.Leave(func(conn *server.Conn) { answer(s.peer.backend.moveState(conn)) }) {
		answer(nil)
	}
}

// Handoff is server.Carrier's.
func (s *backsession) Handoff(name string, state []byte) error {
	switch {
	case name == "" || len(name) > maxNameSize:
		return fmt.Errorf("gateway: endpoint name %q: want 1 to %d bytes", name, maxNameSize)
	case len(state) > maxStateSize:
		return fmt.Errorf("gateway: state: %w", frame.CheckSize(len(state), maxStateSize))
	}
	data := appendHandoff(beginControl(false, ctlHandoff, 16+len(name)+len(state)), s.key, name, state)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer.plain {
		return server.ErrNoGateway
	}
	return s.putLocked(frame.NewPacket(linkPacketType, data, nil)) // which waits for a link, if there is none
}

// detach takes the session off l, where it is on it.
func (s *backsession) detach(l *backlink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return false
	}
	s.link, s.lostLink = nil, l
	return true
}

// attach takes the session up on l. It holds what comes and goes until resumeWhenEnded lets it.
func (s *backsession) attach(l *backlink, o *openBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldLink = s.link
	s.number, s.link, s.holding = o.attach, l, true
	s.receivedThen = s.received // more may come over the new link before the old one has ended, and nothing over the old one
	s.kind.Store(int32(o.kind))
}

// resumeWhenEnded goes on over the new link: at once if the old one has ended, else when it has.
func (s *backsession) resumeWhenEnded(o *openBody) {
	s.mu.Lock()
	old, l, received := s.oldLink, s.link, s.receivedThen
	s.oldLink = nil
	s.mu.Unlock()
	s.regroup()
	again := func() { s.resume(l, o, received) }
	if old == nil || old == l {
		again()
		return
	}
	old.conn.Abort(errLinkSuperseded)
	old.whenEnded(again)
}

// resume tells the gateway what came and went until here, and goes on. Both sides then know what was lost.
func (s *backsession) resume(l *backlink, o *openBody, received uint64) {
	for { // until nothing came in while what had come was handled
		s.flushUp()
		refused, done, err := s.resumeHeld(l, o, received)
		finishAll(refused, err)
		if done {
			break
		}
	}
	s.regroup()
}

// resumeHeld returns those of the packets held that could not be queued, and why. done is false while there is something to be
// handled first.
func (s *backsession) resumeHeld(l *backlink, o *openBody, received uint64) (refused []*frame.Packet, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.link != l || s.number != o.attach || s.closed:
		return nil, true, nil // it was attached anew meanwhile, or ended
	case len(s.heldUp) > 0:
		return nil, false, nil
	}
	s.reportLocked(l, o, received, false)
	s.holding = false
	held := s.held
	s.held = nil
	for i, p := range held {
		if err := s.putLocked(p); err != nil {
			return held[i:], true, err
		}
	}
	return nil, true, nil
}

// reportLocked answers a resumed OPEN, and counts what was lost until then.
func (s *backsession) reportLocked(l *backlink, o *openBody, received uint64, anew bool) {
	written := s.written.Load()
	l.trySend(appendAttached(beginControl(false, ctlAttached, 32), &attachedBody{
		key: s.key, attach: o.attach, anew: anew, received: received, written: written,
	}))
	stats := &s.peer.backend.stats
	stats.lostUp.Add(news(&s.lostUp, o.written, received))
	stats.lostDown.Add(news(&s.lostDown, written, o.received))
}

// news returns how many more packets of those sent have not come than was known, and notes the sum. Counting from the
// session's start makes the loss of an OPEN or ATTACHED harmless: the next one tells it all.
func news(known *uint64, sent, came uint64) uint64 {
	total := sent - min(sent, came)
	more := total - min(total, *known)
	*known += more
	return more
}

// clientName is how a session goes by in its ID.
func clientName(o *openBody) string {
	if o.address != "" {
		return o.address
	}
	return keyString(o.key)
}

// remoteAddr is a client's address as its gateway told it.
type remoteAddr struct{ network, address string }

func (a remoteAddr) Network() string { return a.network }
func (a remoteAddr) String() string  { return a.address }

func clientAddr(o *openBody) net.Addr {
	ap, err := netip.ParseAddrPort(o.address)
	if err != nil {
		return remoteAddr{network: o.transport, address: o.address}
	}
	return net.TCPAddrFromAddrPort(ap)
}
