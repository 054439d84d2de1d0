package gateway

import (
	"maps"
	"slices"
	"sync"

	"github.com/minotaur-gateway/gateway/server"
)

// Group is a set of clients that get the same packets: a room, a match. Gateways know who belongs to it, so that a cast carries
// no keys. It belongs to its Backend: a group of the same name on another backend is another group, and whoever is to be in one
// has to be on one backend (Gateway.GetEndpointByKey). A client that leaves the server, or is moved, leaves its groups.
type Group struct {
	b    *Backend // static, as is the next
	name string

	mu      sync.Mutex // guards the rest; taken before backsession.mu
	members map[string]*server.Conn
	direct  map[string]*server.Conn // those that no lane reaches
	prune   int                     // size of direct at which closed ones are looked for next
	homes   map[*backsession]*backlink
	lanes   map[*backlink][]*backsession // never changed, replaced
	closed  bool
}

// Group returns the group of this name, made by the first who asks for it. The name has 1 to 255 bytes; of a longer one the
// rest is ignored. It lives until Close: a room that is there for good needn't be closed, a match has to be.
func (b *Backend) Group(name string) *Group {
	name = name[:min(len(name), maxGroupSize)]
	b.groupsMu.Lock()
	defer b.groupsMu.Unlock()
	group := b.groups[name]
	if group == nil {
		group = &Group{
			b: b, name: name, members: map[string]*server.Conn{}, direct: map[string]*server.Conn{},
			homes: map[*backsession]*backlink{}, lanes: map[*backlink][]*backsession{},
		}
		b.groups[name] = group
	}
	return group
}

// Close takes everybody out and forgets the group. Nobody joins it any more; the next who asks for its name gets another one.
func (g *Group) Close() {
	g.b.groupsMu.Lock()
	defer g.b.groupsMu.Unlock() // so that the LEAVEs go before the JOINs of the next one of that name
	g.mu.Lock()
	g.closed = true
	members := slices.Collect(maps.Values(g.members))
	g.mu.Unlock()
	g.Leave(members...)
	if g.b.groups[g.name] == g {
		delete(g.b.groups, g.name)
	}
}

// Join adds conns. One that is closed, or in the group already, changes nothing.
func (g *Group) Join(conns ...*server.Conn) {
	for _, conn := range conns {
		if g.add(conn) {
			if s := g.b.sessionOf(conn); s != nil {
				g.place(s)
			}
		}
	}
}

func (g *Group) add(conn *server.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.direct) >= g.prune {
		g.pruneLocked()
		g.prune = 2*len(g.direct) + 16
	}
	if old := g.members[conn.GetID()]; g.closed || conn.IsClosed() || old != nil && !old.IsClosed() {
		return false
	}
	g.members[conn.GetID()] = conn
	g.direct[conn.GetID()] = conn
	if s := g.b.sessionOf(conn); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.groups == nil {
			s.groups = map[*Group]struct{}{}
		}
		s.groups[g] = struct{}{}
	}
	return true
}

// pruneLocked takes those out whose leaving nobody tells the group about: direct clients that have closed.
func (g *Group) pruneLocked() {
	maps.DeleteFunc(g.direct, func(id string, conn *server.Conn) bool {
		gone := conn.IsClosed()
		if gone {
			delete(g.members, id)
		}
		return gone
	})
}

// Leave takes conns out.
func (g *Group) Leave(conns ...*server.Conn) {
	for _, conn := range conns {
		g.leave(conn)
	}
}

func (g *Group) leave(conn *server.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, member := g.b.sessionOf(conn), g.members[conn.GetID()]
	if member != nil && g.b.sessionOf(member) == s && member.IsClosed() == conn.IsClosed() { // not a later one of the same ID
		delete(g.members, conn.GetID())
		delete(g.direct, conn.GetID())
	}
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, g)
	g.moveLocked(s, nil)
}

// place notes which lane reaches a session: after it has joined, lost its link, got another one, or ended.
func (g *Group) place(s *backsession) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, in := s.groups[g]; !in {
		return
	}
	id := s.carried.ID()
	if s.closed {
		delete(s.groups, g)
		if g.b.sessionOf(g.members[id]) == s {
			delete(g.members, id)
			delete(g.direct, id)
		}
		g.moveLocked(s, nil)
		return
	}
	l := s.castLaneLocked()
	g.moveLocked(s, l)
	if l == nil {
		g.direct[id] = g.members[id]
	} else {
		delete(g.direct, id)
	}
}

// moveLocked tells the gateway, in order with what is written to the session, that it belongs to the group now, or no more.
// Both locks are held.
func (g *Group) moveLocked(s *backsession, l *backlink) {
	old := g.homes[s]
	if old == l {
		return
	}
	if old != nil {
		rest := slices.DeleteFunc(slices.Clone(g.lanes[old]), func(other *backsession) bool { return other == s })
		if g.lanes[old] = rest; len(rest) == 0 {
			delete(g.lanes, old)
		}
		if !s.closed && s.link == old {
			old.trySend(appendGroup(beginControl(false, ctlLeave, 16+len(g.name)), g.name, s.key))
		}
	}
	if l == nil {
		delete(g.homes, s)
		return
	}
	g.homes[s] = l
	g.lanes[l] = append(slices.Clone(g.lanes[l]), s)
	l.trySend(appendGroup(beginControl(false, ctlJoin, 16+len(g.name)), g.name, s.key))
}

// Members returns who is in the group, in no order.
func (g *Group) Members() []*server.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pruneLocked()
	return slices.Collect(maps.Values(g.members))
}

// Cast writes packet to every member: one packet for each link that has some, and no keys in it. Otherwise it is
// Backend.Cast.
func (g *Group) Cast(packet []byte) error { return g.CastWS(0, packet) }

// CastWS is Cast with a WebSocket type: 1 is text, 2 is binary; other transports ignore it.
func (g *Group) CastWS(wst int, packet []byte) error {
	if err := checkCast(packet); err != nil {
		return err
	}
	direct, missed := g.castLanes(wst, packet)
	for _, conn := range direct {
		writeDirect(conn, wst, packet)
	}
	writeEach(missed, wst, packet)
	return nil
}

// castLanes casts to the lanes, and returns those members that none of them reaches, and those that one would not take the
// cast for. Who has closed leaves.
func (g *Group) castLanes(wst int, packet []byte) (direct []*server.Conn, missed []*backsession) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for l, sessions := range g.lanes {
		missed = append(missed, g.b.sendCast(l, &castBody{kind: byte(wst), to: castGroup, group: g.name, payload: packet}, sessions)...)
	}
	g.pruneLocked()
	return slices.AppendSeq(direct, maps.Values(g.direct)), missed
}
