package gateway

import (
	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/server"
)

// The types of the handlers. A panic in one is recovered, logged, and costs that connection only.
type (
	// ConnectionOpenedEventHandle runs once for each client, before its first packet, on the goroutine or event loop that reads
	// it.
	ConnectionOpenedEventHandle func(gateway *Gateway, conn *server.Conn)
	// ConnectionClosedEventHandle runs once for each client, after its last packet. Until it returns, packets can still be
	// forwarded for conn, so that an endpoint can be told; Forward gives ErrConnectionNotFound afterwards.
	ConnectionClosedEventHandle func(gateway *Gateway, conn *server.Conn)
	// ConnectionReceivePacketEventHandle gets a client's packet, which belongs to it, on the goroutine or event loop that
	// reads the client, one packet after another. It should not block; see server.WithAsyncHandlers and server.WithEngine.
	ConnectionReceivePacketEventHandle func(gateway *Gateway, conn *server.Conn, packet []byte)
	// EndpointConnectOpenedEventHandle runs once for each link that comes up, on the goroutine that connects it.
	EndpointConnectOpenedEventHandle func(gateway *Gateway, endpoint *Endpoint)
	// EndpointConnectClosedEventHandle runs once for each link that was up and has ended.
	EndpointConnectClosedEventHandle func(gateway *Gateway, endpoint *Endpoint)
	// EndpointConnectReceivePacketEventHandle gets a packet that an endpoint sent for conn, and owns it. It runs on the
	// goroutine or event loop that reads the link, and may run beside conn's own handlers. It should not block: it holds up
	// the link, and on a loop (server.WithEngine) its clients and other links. Casts
	// (Backend.Cast, CastAll, Group.Cast) don't come here, they go straight to the clients;
	// Server().RegConnectionWritePacketBeforeEvent sees those too.
	EndpointConnectReceivePacketEventHandle func(gateway *Gateway, endpoint *Endpoint, conn *server.Conn, packet []byte)
	// ForwardFailedEventHandle runs for each Forward whose callback gets an error, before the callback. packet is without header.
	ForwardFailedEventHandle func(gateway *Gateway, endpoint *Endpoint, conn *server.Conn, packet []byte, err error)
)

type events struct {
	opened          hook.List[ConnectionOpenedEventHandle]
	closed          hook.List[ConnectionClosedEventHandle]
	receive         hook.List[ConnectionReceivePacketEventHandle]
	endpointOpened  hook.List[EndpointConnectOpenedEventHandle]
	endpointClosed  hook.List[EndpointConnectClosedEventHandle]
	endpointReceive hook.List[EndpointConnectReceivePacketEventHandle]
	forwardFailed   hook.List[ForwardFailedEventHandle]
}

// RegConnectionOpenedEventHandle registers handle. Of all events: a lower priority runs earlier, the default is 0, and
// registering is allowed at any time, from any goroutine. A handler that panics costs the connection, if the event is one of
// its packets or its opening; of the other events the handlers behind it run all the same.
func (g *Gateway) RegConnectionOpenedEventHandle(handle ConnectionOpenedEventHandle, priority ...int) {
	g.events.opened.Add(handle, priority...)
}

// OnConnectionOpenedEvent runs every registered handle, in order; of all events: on the caller's goroutine.
func (g *Gateway) OnConnectionOpenedEvent(conn *server.Conn) {
	for _, handle := range g.events.opened.All() {
		handle(g, conn)
	}
}

// RegConnectionClosedEventHandle registers handle. Server().RegConnectionClosedEvent is told why as well: nil for a client that
// has left, else what Close was given or went wrong: ErrKicked, ErrFlooding, ErrHandlerPanic, server.ErrSlowConsumer,
// server.ErrMailboxFull, server.ErrHandlerPanic, server.ErrGoingAway when the gateway shuts down, the network's.
func (g *Gateway) RegConnectionClosedEventHandle(handle ConnectionClosedEventHandle, priority ...int) {
	g.events.closed.Add(handle, priority...)
}

// OnConnectionClosedEvent runs every registered handle, in order.
func (g *Gateway) OnConnectionClosedEvent(conn *server.Conn) {
	for _, handle := range g.events.closed.All() {
		g.guard("ConnectionClosed", func() { handle(g, conn) })
	}
}

// RegConnectionReceivePacketEventHandle registers handle.
func (g *Gateway) RegConnectionReceivePacketEventHandle(handle ConnectionReceivePacketEventHandle, priority ...int) {
	g.events.receive.Add(handle, priority...)
}

// OnConnectionReceivePacketEvent runs every registered handle, in order.
func (g *Gateway) OnConnectionReceivePacketEvent(conn *server.Conn, packet []byte) {
	for _, handle := range g.events.receive.All() {
		handle(g, conn, packet)
	}
}

// RegEndpointConnectOpenedEventHandle registers handle.
func (g *Gateway) RegEndpointConnectOpenedEventHandle(handle EndpointConnectOpenedEventHandle, priority ...int) {
	g.events.endpointOpened.Add(handle, priority...)
}

// OnEndpointConnectOpenedEvent runs every registered handle, in order.
func (g *Gateway) OnEndpointConnectOpenedEvent(endpoint *Endpoint) {
	for _, handle := range g.events.endpointOpened.All() {
		g.guard("EndpointConnectOpened", func() { handle(g, endpoint) })
	}
}

// RegEndpointConnectClosedEventHandle registers handle.
func (g *Gateway) RegEndpointConnectClosedEventHandle(handle EndpointConnectClosedEventHandle, priority ...int) {
	g.events.endpointClosed.Add(handle, priority...)
}

// OnEndpointConnectClosedEvent runs every registered handle, in order.
func (g *Gateway) OnEndpointConnectClosedEvent(endpoint *Endpoint) {
	for _, handle := range g.events.endpointClosed.All() {
		g.guard("EndpointConnectClosed", func() { handle(g, endpoint) })
	}
}

// RegEndpointConnectReceivePacketEventHandle registers handle.
func (g *Gateway) RegEndpointConnectReceivePacketEventHandle(handle EndpointConnectReceivePacketEventHandle, priority ...int) {
	g.events.endpointReceive.Add(handle, priority...)
}

// OnEndpointConnectReceivePacketEvent runs every registered handle, in order.
func (g *Gateway) OnEndpointConnectReceivePacketEvent(endpoint *Endpoint, conn *server.Conn, packet []byte) {
	for _, handle := range g.events.endpointReceive.All() {
		handle(g, endpoint, conn, packet)
	}
}

// RegForwardFailedEventHandle registers handle.
func (g *Gateway) RegForwardFailedEventHandle(handle ForwardFailedEventHandle, priority ...int) {
	g.events.forwardFailed.Add(handle, priority...)
}

// OnForwardFailedEvent runs every registered handle, in order.
func (g *Gateway) OnForwardFailedEvent(endpoint *Endpoint, conn *server.Conn, packet []byte, err error) {
	for _, handle := range g.events.forwardFailed.All() {
		g.guard("ForwardFailed", func() { handle(g, endpoint, conn, packet, err) })
	}
}

// guard runs the user's code in one place where its panics end: they are counted and logged. It reports whether f returned.
func (g *Gateway) guard(what string, f func()) (ok bool) {
	ok = true
	hook.Guard(f, func(value any, stack []byte) {
		ok = false
		g.counts.add(handlerPanics)
		g.log.Error("user code panicked", "what", what, "panic", value, "stack", string(stack))
	})
	return ok
}
