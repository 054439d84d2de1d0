package server

import (
	"errors"
	"fmt"
	"net"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Errors that Run, Write's callbacks and closed events report. Those that mean that a connection is over unwrap to net.ErrClosed.
var (
	// ErrServerRunning is returned by Run while another Run of the same Server is going on.
	ErrServerRunning = errors.New("server: server running")
	// ErrServerClosed is returned by Run after Shutdown.
	ErrServerClosed = fmt.Errorf("server: server closed: %w", net.ErrClosed)
	// ErrShutdownTimeout is returned by Run when handlers were still running at the end of the shutdown timeout.
	ErrShutdownTimeout = errors.New("server: handlers still running after the shutdown timeout")
	// ErrBadAddress is what Run returns, wrapped, for an address that can't be listened on.
	ErrBadAddress = errors.New("server: bad address")
	// ErrBadOption is what Run returns, wrapped, for an option's bad value.
	ErrBadOption = errors.New("server: bad option")
	// ErrNotDeadSocket is returned by Run where something that isn't a socket nobody listens on stands at a Unix path.
	ErrNotDeadSocket = errors.New("server: path is taken by something other than a dead socket")
	// ErrNetworkUnsupported is what NetworkError unwraps to.
	ErrNetworkUnsupported = errors.New("server: network not supported")

	// ErrConnClosed is what writes on a connection get that was closed.
	ErrConnClosed = fmt.Errorf("server: connection closed: %w", net.ErrClosed)
	// ErrSlowConsumer closes a connection whose peer doesn't read what it is sent: its outbound queue was full.
	ErrSlowConsumer = fmt.Errorf("server: slow consumer: outbound queue full: %w", net.ErrClosed)
	// ErrQueueFull is what a layer's Enqueue returns, and a write on a connection that a gateway carries gets, while the
	// link's outbound queue is at its bound.
	ErrQueueFull = errors.New("server: outbound queue full")
	// ErrNoGateway is what Handoff returns for a client that is not behind a gateway.
	ErrNoGateway = errors.New("server: not a gateway's client")
	// ErrMailboxFull closes a connection that sends faster than its handlers work (WithAsyncHandlers, WithSerialHandlers).
	// Over UDP, where others may have sent them, it costs the packets only.
	ErrMailboxFull = fmt.Errorf("server: mailbox full: packets arrive faster than they are handled: %w", net.ErrClosed)
	// ErrRateLimited closes a connection that sends more than WithPacketRate or WithByteRate let it.
	ErrRateLimited = fmt.Errorf("server: more packets or bytes than the rate allows: %w", net.ErrClosed)
	// ErrNotAdmitted closes a connection that WithAdmission's function did not let in, or not in time. It is what the connection's
	// context gives as the cause: such a connection has no closed event.
	ErrNotAdmitted = fmt.Errorf("server: not admitted: %w", net.ErrClosed)
	// ErrHandlerPanic closes a connection one of whose handlers panicked.
	ErrHandlerPanic = fmt.Errorf("server: handler panicked: %w", net.ErrClosed)
	// ErrIdleTimeout closes a UDP session from which nothing was received for too long: see WithUDPIdleTimeout.
	ErrIdleTimeout = fmt.Errorf("server: idle timeout: nothing was received for too long: %w", net.ErrClosed)
	// ErrGoingAway closes connections at Shutdown.
	ErrGoingAway = fmt.Errorf("server: going away: %w", net.ErrClosed)
	// ErrMessageType closes a WebSocket connection that sends a type that WithWebsocketMessageType doesn't list.
	ErrMessageType = errors.New("server: websocket message type not accepted")
	// ErrPacketTooLarge is what every error about a packet's size unwraps to.
	ErrPacketTooLarge = frame.ErrPacketTooLarge
)

// writeError is what packets get that a failed write took with it: the network's error, and the end of the connection.
type writeError struct{ err error }

func (e *writeError) Error() string { return "server: write: " + e.err.Error() }

func (e *writeError) Unwrap() []error { return []error{e.err, ErrConnClosed} }

// NetworkError is returned by Run for a network that this version has no transport for; see WithTransport.
type NetworkError struct{ Network Network }

func (e *NetworkError) Error() string {
	return fmt.Sprintf("server: network %q not supported: give its transport by WithTransport", string(e.Network))
}

// Unwrap returns ErrNetworkUnsupported.
func (e *NetworkError) Unwrap() error { return ErrNetworkUnsupported }
