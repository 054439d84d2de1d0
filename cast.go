package gateway

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"github.com/minotaur-gateway/gateway/server"
)

// Casts at the gateway: one copy on a lane, many clients. They go straight into the clients' queues, past the
// EndpointConnectReceivePacket handlers.

// groups is who belongs to which group, on one lane.
type groups struct {
	mu      sync.Mutex // guards the rest, and opening.groups; taken last
	members map[string]map[*opening]struct{}
}

func (g *groups) join(group string, o *opening) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.members == nil {
		g.members = map[string]map[*opening]struct{}{}
	}
	if g.members[group] == nil {
		g.members[group] = map[*opening]struct{}{}
	}
	if o.groups == nil {
		o.groups = map[string]struct{}{}
	}
	g.members[group][o], o.groups[group] = struct{}{}, struct{}{}
}

func (g *groups) leave(group string, o *opening) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked(group, o)
}

func (g *groups) leaveLocked(group string, o *opening) {
	delete(o.groups, group)
	delete(g.members[group], o)
	if len(g.members[group]) == 0 {
		delete(g.members, group)
	}
}

// forget takes a session that has ended out of every group.
func (g *groups) forget(o *opening) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for group := range o.groups {
		g.leaveLocked(group, o)
	}
}

func (g *groups) of(group string) []*opening {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.members[group]))
}

// regroup handles JOIN and LEAVE.
func (g *Gateway) regroup(l *link, t controlType, body []byte) error {
	group, keys, err := readGroup(t, body)
	if err != nil {
		return err
	}
	for ; len(keys) >= keySize; keys = keys[keySize:] {
		_, o := g.openingOn(l, getKey(keys))
		switch {
		case o == nil: // counted
		case t == ctlJoin:
			l.groups.join(group, o)
		default:
			l.groups.leave(group, o)
		}
	}
	return nil
}

// cast hands one payload to the queues of many clients.
func (g *Gateway) cast(l *link, c *castBody) {
	g.counts.add(casts)
	if !isMessageType(c.kind) {
		c.kind = 0
	}
	payload := server.NewShared(bytes.Clone(c.payload)) // without the keys, which a slow client needn't hold
	switch c.to {
	case castKeys:
		for keys := c.keys; len(keys) >= keySize; keys = keys[keySize:] {
			if s, ok := g.keys.sessions.Get(getKey(keys)); ok {
				g.castTo(l, s, nil, int(c.kind), payload)
			} else {
				g.counts.add(fromEndpoints)
				g.counts.add(droppedUnknown)
			}
		}
	case castGroup:
		for _, o := range l.groups.of(c.group) {
			g.castTo(l, o.session, o, int(c.kind), payload)
		}
	case castAll:
		for _, o := range l.endpoint.openingsOn(l) {
			g.castTo(l, o.session, o, int(c.kind), payload)
		}
	}
}

// castTo writes to one client, if it is open on l, by this opening where one is given: the client may have left, and be back.
func (g *Gateway) castTo(l *link, s *session, member *opening, kind int, payload *server.Shared) {
	g.counts.add(fromEndpoints)
	o, why, _ := g.admitDelivery(l, s, member)
	if o == nil { // it has just left: no news where a packet is for many
		g.counts.add(why)
		return
	}
	defer s.endDelivery()
	o.hear()
	s.conn.WriteShared(kind, payload)
}

func (e *Endpoint) openingsOn(l *link) (all []*opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.openings {
		if o.lane.Load() == l && !o.resuming.Load() { // until ATTACHED its backend writes to it by itself
			all = append(all, o)
		}
	}
	return all
}
