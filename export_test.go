package gateway

import (
	"slices"

	"github.com/minotaur-gateway/gateway/server"
)

// LiveSessions returns how many sessions have a key.
func LiveSessions(g *Gateway) int { return g.keys.sessions.Len() }

// OpenSessions returns how many sessions are open on an endpoint.
func OpenSessions(e *Endpoint) int { return len(e.sessions()) }

// AddSession makes an endpoint look as if one more session were bound to it.
func AddSession(e *Endpoint) { e.bound.Add(1) }

// Selectable reports whether the endpoint is among those that selectors see.
func Selectable(e *Endpoint) bool {
	g := e.gw.Load()
	return g != nil && slices.Contains((*g.names.Load())[e.name], e)
}

// Leaving reports whether the gateway has begun to end conn's session.
func Leaving(g *Gateway, conn *server.Conn) bool {
	s := g.sessionOf(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving
}

// Tombstones returns how many sessions were closed at the backend, and not yet by their gateways.
func Tombstones(b *Backend) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, p := range b.peers {
		p.mu.Lock()
		n += len(p.gone)
		p.mu.Unlock()
	}
	return n
}

// Peers returns how many gateways the backend knows something about.
func Peers(b *Backend) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.peers)
}

// SpeaksSession reports whether the endpoint's links speak the session protocol.
func SpeaksSession(e *Endpoint) bool { return e.speaksSession() }

// GroupLanes returns how many links a group's casts go over.
func GroupLanes(g *Group) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lanes)
}

// RememberedClients returns how many sessions a backend's links find without asking. No packet may be on its way.
func RememberedClients(b *Backend) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.links {
		n += len(l.clients)
	}
	return n
}
