package gateway

// LiveSessions returns how many sessions have a key.
func LiveSessions(g *Gateway) int { return g.keys.sessions.Len() }

// OpenSessions returns how many sessions are open on an endpoint.
func OpenSessions(e *Endpoint) int { return len(e.sessions()) }

// AddSession makes an endpoint look as if one more session were bound to it.
func AddSession(e *Endpoint) { e.bound.Add(1) }
