package gateway

import (
	"errors"
	"net"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

var (
	// ErrEndpointNotExists means that no usable endpoint goes by that name, or that the gateway doesn't know the endpoint.
	ErrEndpointNotExists = errors.New("gateway: endpoint not exists")
	// ErrGatewayClosed is returned by Run after Shutdown. It unwraps to net.ErrClosed.
	ErrGatewayClosed error = &closedError{"gateway: gateway closed"}
	// ErrGatewayRunning is returned by Run while another Run of the same Gateway is going on.
	ErrGatewayRunning = errors.New("gateway: gateway running")
	// ErrConnectionNotFount means that the gateway has no such connection, or no longer. It unwraps to net.ErrClosed.
	ErrConnectionNotFount error = &closedError{"gateway: connection not found"}
	// ErrConnectionNotFound is the same value under the name it should have had.
	ErrConnectionNotFound = ErrConnectionNotFount

	// ErrNoLink means that none of the endpoint's links is up. It unwraps to net.ErrClosed.
	ErrNoLink error = &closedError{"gateway: endpoint has no live link"}
	// ErrLinkFull means that the endpoint doesn't read: the queue of the session's link is at its bound.
	ErrLinkFull = errors.New("gateway: link full")
	// ErrFlooding means that one connection filled its share of a link's queue; the connection is closed.
	ErrFlooding = errors.New("gateway: connection fills its share of the link")
	// ErrUndrained is what Backend.Drain returns, wrapped, when Undrain or Hold has taken it back.
	ErrUndrained = errors.New("gateway: drain was taken back")
	// ErrMoving means that a connection is on its way to another endpoint, and that more was forwarded for it than is held.
	ErrMoving = errors.New("gateway: connection is moving, and too much waits for it")
	// ErrUnreliableLink is why an endpoint is refused, as the log says, whose client is one of datagrams (client.NewUDP): a session
	// protocol needs a link that loses nothing and keeps order.
	ErrUnreliableLink = errors.New("gateway: a link must not lose or reorder packets")
	// ErrPacketTooLarge is what every error about a packet's size unwraps to.
	ErrPacketTooLarge = frame.ErrPacketTooLarge
	// ErrBadOption is what Run returns, wrapped, for a missing part or an option's bad value; a backend's server's Run too.
	ErrBadOption = errors.New("gateway: bad option")
	// ErrHandlerPanic closes a connection for which an endpoint's packet made a handler panic.
	ErrHandlerPanic error = &closedError{"gateway: handler panicked"}
	// ErrKicked closes a connection that its endpoint has closed.
	ErrKicked error = &closedError{"gateway: closed by its endpoint"}
	// ErrShutdownTimeout is returned by Run when user code was still running at the end of the shutdown timeout.
	ErrShutdownTimeout = errors.New("gateway: scanner or handlers still running after the shutdown timeout")
)

// closedError is an error after which nothing more can come.
type closedError struct{ text string }

func (e *closedError) Error() string { return e.text }

// Unwrap returns net.ErrClosed.
func (e *closedError) Unwrap() error { return net.ErrClosed }
