package gateway

import (
	"errors"
	"time"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// A session's packets to one endpoint all go over one link, its lane, so that they stay in order. This file chooses
// lanes, queues packets on them, and moves both when a link is lost.

// lateLimit bounds what waits for a lost link's sessions to be moved.
const lateLimit = 4 << 20

// send queues f on its session's lane. The caller holds the session's lock, which keeps the session's packets in order.
func (e *Endpoint) send(f *forward, now int64) error {
	o, size := f.opening, int64(len(f.data))
	if waiting := o.pending.Add(size); waiting > sessionShare && waiting > size {
		o.pending.Add(-size)
		return ErrFlooding
	}
	err := e.announce(f)
	asked := err == nil && o.attach.Load() == 0 && o.ask(now) // a backend is pinged
	if err == nil {
		err = e.enqueue(f)
	}
	if err != nil {
		o.pending.Add(-size)
		if asked {
			o.asked.Store(0)
		}
	}
	return err
}

// enqueue puts f into the queue of its lane.
func (e *Endpoint) enqueue(f *forward) error {
	for {
		l := f.opening.lane.Load()
		if l == nil {
			if l = e.chooseLane(f.opening); l == nil {
				return ErrNoLink
			}
		}
		err := l.enqueue(f)
		switch {
		case err == nil, errors.Is(err, ErrPacketTooLarge):
			return err
		case errors.Is(err, client.ErrQueueFull):
			return ErrLinkFull
		}
		// The link is lost. Until its sessions have been moved, f waits behind what the link had queued.
		if waits, err := e.keepLate(l, f); waits || err != nil {
			return err
		}
	}
}

func (l *link) enqueue(f *forward) error {
	f.link, f.kept = l, f.kept || !l.cli.KeepsNothing()
	f.packet.Own(linkPacketType, f.data, f)
	if f.control == ctlClose { // a session that is not closed would stay at the backend
		return l.cli.Force(&f.packet)
	}
	return l.cli.Enqueue(&f.packet)
}

// on reports whether l is the session's lane. An answer may come over a lane before moveLanes has let go of everything: who finds
// another lane makes sure that it has.
func (o *opening) on(l *link) bool {
	if o.lane.Load() == l {
		return true
	}
	o.endpoint.mu.Lock()
	defer o.endpoint.mu.Unlock()
	return o.lane.Load() == l
}

// keepLate lets f wait for the loss of l to be dealt with, and reports false if it has been already.
func (e *Endpoint) keepLate(l *link, f *forward) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !l.up {
		return false, nil
	}
	if err := l.keepLateLocked(f); err != nil {
		return false, err
	}
	return true, nil
}

// keepUnsent keeps what a lost link took and did not write, and reports false if there is no link to keep it.
func (e *Endpoint) keepUnsent(f *forward) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !f.link.up {
		return false
	}
	f.link.unsent = append(f.link.unsent, f)
	return true
}

// chooseLane pins a session without a lane to the link with the fewest sessions, and returns its lane, nil if no link is up.
func (e *Endpoint) chooseLane(o *opening) *link {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := o.lane.Load(); l != nil {
		return l
	}
	l := e.leastLocked(o)
	if l != nil {
		l.sessions++
		o.lane.Store(l)
	}
	return l
}

// leastLocked returns the link with the fewest sessions, of those on the event loop of o's client where there are some, nil if no
// link is up.
func (e *Endpoint) leastLocked(o *opening) *link { return e.leastOn(o.session.loop) }

func (e *Endpoint) leastOn(own *loop.Loop) *link {
	var least *link
	near := false // least is on the client's loop
	for _, l := range e.links {
		switch here := own != nil && l.loop == own; {
		case least == nil, here && !near, here == near && l.sessions < least.sessions:
			least, near = l, here
		}
	}
	return least
}

// linkLost moves what a lost link carried to live links of the endpoint, in order. Its socket is closed, its reader has
// ended, and it has handed over what it did not write.
func (e *Endpoint) linkLost(l *link) {
	g := e.gw.Load()
	failed, resumed, orphans := e.moveLanes(g, l)
	g.rebuild()
	for _, o := range resumed {
		o.session.mu.Lock()
		o.repeatFlow()
		o.session.mu.Unlock()
	}
	for _, s := range orphans {
		s.leave(e)
	}
	for _, f := range failed {
		f.settle(f.failure)
		f.giveBack()
	}
}

// moveLanes returns the packets that no link could take, each with its failure, the sessions that go on over another link, and
// those that wait for a word from this endpoint that will not come.
func (e *Endpoint) moveLanes(g *Gateway, l *link) (failed []*forward, resumed []*opening, orphans []*session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.up = false
	e.links = remove(e.links, l)
	e.live.Store(int32(len(e.links)))
	if len(e.links) == 0 {
		e.dialect = dialectUnknown
	}
	unsent := append(l.unsent, l.late...)
	l.unsent, l.late = nil, nil
	opens, closes := map[*opening]bool{}, map[*opening]bool{} // that are among what was not written
	for _, f := range unsent {
		opens[f.opening] = opens[f.opening] || f.control == ctlOpen
		closes[f.opening] = closes[f.opening] || f.control == ctlClose
	}
	next := map[*opening]*link{}
	stale := l.session && l.peer != e.peer // its backend has gone, and what was meant for that one is not for the next
	for _, o := range e.openings {
		if o.lane.Load() != l {
			continue
		}
		to := e.leastLocked(o)
		if stale {
			to = nil
		}
		if to != nil && o.attach.Load() != 0 && !opens[o] && to.enqueue(o.resumedOpenLocked()) != nil {
			to = nil // the session is resumed with its next packet
		}
		switch next[o] = to; {
		case to != nil:
			to.sessions++
		case o.moving.Load():
			orphans = append(orphans, o.session)
		}
	}
	for _, f := range unsent {
		to, open := next[f.opening]
		if !open && !stale { // the session has ended, what it left behind has not
			to = e.leastLocked(f.opening)
		}
		if err := g.requeueLocked(f, to); err != nil { // else it isn't ours any more
			f.failure = err
			failed = append(failed, f)
		}
	}
	// Only now may the sessions' next packets find the new lane: behind what was moved.
	for o, to := range next {
		if to != nil && o.moving.Load() && !closes[o] { // the answer to its CLOSE is lost, or the CLOSE itself
			_ = g.requeueLocked(o.closing(causeMoved), to)
		}
		if o.lane.Store(to); to != nil {
			resumed = append(resumed, o)
		}
	}
	return failed, resumed, orphans
}

// requeueLocked queues a lost link's packet on another one, or says why that can't be.
func (g *Gateway) requeueLocked(f *forward, to *link) error {
	if to == nil {
		return ErrNoLink
	}
	if f.control == ctlClose { // of the OPEN that has just gone before it
		f.data = closePacket(f.opening.session.key, f.opening.attach.Load(), f.cause)
	}
	err := to.enqueue(f)
	switch {
	case err == nil:
	case errors.Is(err, client.ErrQueueFull):
		return ErrLinkFull
	case errors.Is(err, ErrPacketTooLarge):
		return err
	default: // that one is lost as well, which is dealt with next
		if err := to.keepLateLocked(f); err != nil {
			return err
		}
	}
	g.counts.add(moved)
	return nil
}

// keepLateLocked lets f wait until the loss of l is dealt with.
func (l *link) keepLateLocked(f *forward) error {
	if l.lateBytes += len(f.data); l.lateBytes > lateLimit {
		l.lateBytes -= len(f.data)
		return ErrLinkFull
	}
	l.late = append(l.late, f)
	return nil
}

func remove(links []*link, l *link) []*link {
	kept := make([]*link, 0, len(links))
	for _, other := range links {
		if other != l {
			kept = append(kept, other)
		}
	}
	return kept
}

// ask notes that a packet left to which a reply may come, if none is outstanding, and reports whether it did.
func (o *opening) ask(now int64) bool {
	asked := o.asked.Load()
	if asked != 0 && now-asked <= int64(maxDelay) {
		return false
	}
	if asked != 0 {
		o.endpoint.health.unanswered.Add(1)
		o.session.gw.counts.add(unanswered)
	}
	return o.asked.CompareAndSwap(asked, now)
}

// answered takes the delay of a reply, if one was outstanding.
func (o *opening) answered(now int64) {
	asked := o.asked.Load()
	if asked == 0 || !o.asked.CompareAndSwap(asked, 0) {
		return
	}
	if delay := now - asked; delay <= int64(maxDelay) {
		o.endpoint.health.add(time.Duration(delay))
		return
	}
	o.endpoint.health.unanswered.Add(1)
	o.session.gw.counts.add(unanswered)
}
