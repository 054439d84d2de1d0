package gateway

import (
	"errors"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

// A session's packets to one endpoint all go over one link, its lane, so that they stay in order. This file chooses
// lanes, queues packets on them, and moves both when a link is lost.

// lateLimit bounds what waits for a lost link's sessions to be moved.
const lateLimit = 4 << 20

// send queues f on its session's lane. The caller holds the session's lock, which keeps the session's packets in order.
func (e *Endpoint) send(f *forward, now int64) error {
	o, size := f.opening, int64(len(f.data))
	if e.epoch.Load() != o.epoch && o.pending.Load() == 0 && now-o.last > int64(laneRest) {
		e.balanceLane(o)
	}
	if waiting := o.pending.Add(size); waiting > sessionShare && waiting > size {
		o.pending.Add(-size)
		return ErrFlooding
	}
	o.last = now
	asked := o.ask(now)
	if err := e.enqueue(f); err != nil {
		o.pending.Add(-size)
		if asked {
			o.asked.Store(0)
		}
		return err
	}
	return nil
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
	f.link = l
	f.packet = client.NewPacket(linkPacketType, f.data, f.done)
	return l.cli.Enqueue(f.packet)
}

// keepLate lets f wait for the loss of l to be dealt with, and reports false if it has been already.
func (e *Endpoint) keepLate(l *link, f *forward) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !l.up {
		return false, nil
	}
	if l.lateBytes += len(f.data); l.lateBytes > lateLimit {
		l.lateBytes -= len(f.data)
		return false, ErrLinkFull
	}
	l.late = append(l.late, f)
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
	l := e.leastLocked()
	if l != nil {
		l.sessions++
		o.lane.Store(l)
		o.epoch = e.epoch.Load()
	}
	return l
}

// balanceLane moves a session that is at rest to a link that carries less: one may have come up since it was pinned.
func (e *Endpoint) balanceLane(o *opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o.epoch = e.epoch.Load()
	old, l := o.lane.Load(), e.leastLocked()
	if old == nil || !old.up || l == nil || l.sessions+1 >= old.sessions {
		return
	}
	old.sessions--
	l.sessions++
	o.lane.Store(l)
}

func (e *Endpoint) leastLocked() *link {
	var least *link
	for _, l := range e.links {
		if least == nil || l.sessions < least.sessions {
			least = l
		}
	}
	return least
}

// linkLost moves what a lost link carried to live links of the endpoint, in order. Its socket is closed, its reader has
// ended, and it has handed over what it did not write.
func (e *Endpoint) linkLost(l *link) {
	g := e.gw.Load()
	failed := e.moveLanes(g, l)
	g.rebuild()
	for _, f := range failed {
		f.settle(ErrNoLink)
	}
}

// moveLanes returns the packets that no link could take.
func (e *Endpoint) moveLanes(g *Gateway, l *link) (failed []*forward) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.up = false
	e.links = remove(e.links, l)
	e.live.Store(int32(len(e.links)))
	next := map[*opening]*link{}
	for o := range e.openings {
		if o.lane.Load() == l {
			if next[o] = e.leastLocked(); next[o] != nil {
				next[o].sessions++
			}
		}
	}
	for _, f := range append(l.unsent, l.late...) {
		to, open := next[f.opening]
		if !open { // the session has ended, what it left behind has not
			to = e.leastLocked()
		}
		if !g.requeueLocked(f, to) {
			failed = append(failed, f)
		}
	}
	l.unsent, l.late = nil, nil
	// Only now may the sessions' next packets find the new lane: behind what was moved.
	for o, to := range next {
		o.lane.Store(to)
	}
	return failed
}

// requeueLocked queues a lost link's packet on another one, and reports false if that can't be.
func (g *Gateway) requeueLocked(f *forward, to *link) bool {
	if to == nil {
		return false
	}
	err := to.enqueue(f)
	switch {
	case err == nil:
		g.counts.add(moved)
	case errors.Is(err, client.ErrQueueFull), errors.Is(err, ErrPacketTooLarge):
		return false
	default: // that one is lost as well, which is dealt with next
		to.late = append(to.late, f)
	}
	return true
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
