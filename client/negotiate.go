package client

import "crypto/tls"

// negotiator is implemented by Cores that agree upon a subprotocol while they connect.
type negotiator interface {
	offer(subprotocol string)
	subprotocol() string
}

// secured is implemented by Cores that may be connected over TLS.
type secured interface {
	tlsState() (tls.ConnectionState, bool)
}

// Offer makes the client ask for a WebSocket subprotocol (RFC 6455, section 1.9) when it is run, and reports whether its
// transport can do that. It is for a client that was not run yet.
func (c *Client) Offer(subprotocol string) bool {
	n, ok := c.core.(negotiator)
	if ok {
		n.offer(subprotocol)
	}
	return ok
}

// Subprotocol returns what client and server agreed upon, "" if nothing or while the client isn't connected.
func (c *Client) Subprotocol() string {
	conn := c.connection()
	if conn == nil || !conn.connected.Load() {
		return ""
	}
	if n, ok := conn.core.(negotiator); ok {
		return n.subprotocol()
	}
	return ""
}

// ExportKeyingMaterial returns secret bytes that only the two ends of the client's TLS connection know (RFC 5705), and
// false where there is no TLS.
func (c *Client) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, bool) {
	conn := c.connection()
	if conn == nil || !conn.connected.Load() {
		return nil, false
	}
	s, ok := conn.core.(secured)
	if !ok {
		return nil, false
	}
	state, ok := s.tlsState()
	if !ok {
		return nil, false
	}
	secret, err := state.ExportKeyingMaterial(label, context, length)
	return secret, err == nil
}

func stateOf(conn any) (tls.ConnectionState, bool) {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.ConnectionState(), true
	}
	return tls.ConnectionState{}, false
}

func (c *streamCore) tlsState() (tls.ConnectionState, bool) { return stateOf(c.stream) }
func (c *wsCore) tlsState() (tls.ConnectionState, bool) {
	if c.raw == nil { // on a loop there is none
		return tls.ConnectionState{}, false
	}
	return stateOf(c.raw.NetConn())
}

func (c *wsCore) offer(subprotocol string) { c.offered = subprotocol }
func (c *wsCore) subprotocol() string      { return c.agreed }
