package gateway

import (
	"github.com/minotaur-gateway/gateway/server"
)

// What comes from endpoints: clients' packets here, control in deliver_control.go.

// deliver hands a packet from an endpoint to the handlers, if it is for a client that is open there, and handles control.
func (g *Gateway) deliver(l *link, data []byte) {
	e := l.endpoint
	if len(data) < headerSize {
		g.counts.add(fromEndpoints)
		g.counts.drop(g.log, droppedMalformed, "shorter than a header", e)
		return
	}
	key := getKey(data)
	if key == controlKey && l.session {
		g.control(l, data[headerSize:])
		return
	}
	g.counts.add(fromEndpoints)
	if key == controlKey {
		g.counts.drop(g.log, droppedControl, "control packet on a plain link", e)
		if t, _, ok := inControl(data); ok && t == ctlWelcome {
			e.forgetDialect(l) // it does speak the protocol, and was slow to say so
		}
		return
	}
	s, ok := g.keys.sessions.Get(key)
	if !ok {
		g.counts.drop(g.log, droppedUnknown, "no such client", e)
		return
	}
	o, why, reason := g.admitDelivery(l, s, nil)
	if o == nil {
		g.counts.drop(g.log, why, reason, e)
		return
	}
	defer s.endDelivery()
	// A view of its own for each packet: a handler may have kept the last one, or run right now for another endpoint.
	kind := 0
	if l.session {
		o.hear()
		if told := data[headerSize-1]; isMessageType(told) && s.conn.IsWebsocket() {
			kind = int(told)
		}
	} else {
		o.answered(g.now())
	}
	g.handleDelivery(e, s.conn.MessageView(kind), data[headerSize:])
}

// hear counts a packet from the session's backend, which knows of the session, then.
func (o *opening) hear() {
	if o.received.Add(1) == 1 {
		o.handed.Store(nil)
	}
}

// isMessageType reports whether kind is a WebSocket type that clients get packets with: text or binary.
func isMessageType(kind byte) bool {
	return kind == server.WebsocketMessageTypeText || kind == server.WebsocketMessageTypeBinary
}

// admitDelivery returns the opening on which a session may get a packet that came over l, which endDelivery has to follow, or
// nil, and what that counts as. only is the opening that it is for, nil: the one that there is.
func (g *Gateway) admitDelivery(l *link, s *session, only *opening) (o *opening, why counter, reason string) {
	o, first, gone := s.beginDelivery(l, only)
	switch {
	case gone:
		return nil, droppedUnknown, "client has left"
	case o == nil:
		return nil, droppedNotOpen, "client not open on this link"
	}
	l.gather(s, first)
	g.counts.add(delivered)
	return o, 0, ""
}

// handleDelivery runs the handlers; a panic costs the client the packet is for.
func (g *Gateway) handleDelivery(e *Endpoint, conn *server.Conn, packet []byte) {
	handlers := g.events.endpointReceive.All()
	if !g.guard("EndpointConnectReceivePacket", func() {
		for _, handle := range handlers {
			handle(g, e, conn, packet)
		}
	}) {
		conn.CloseWith(codeInternalError, "internal error", ErrHandlerPanic)
	}
}

// codeInternalError is WebSocket's close code for a fault on this side (RFC 6455, section 7.4.1).
const codeInternalError = 1011
