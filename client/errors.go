package client

import (
	"errors"
	"fmt"
	"net"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// Errors of Run, of Write's callbacks and of closed events.
var (
	// ErrNotConnected is what writes get while the client is not connected.
	ErrNotConnected = fmt.Errorf("client: not connected: %w", net.ErrClosed)
	// ErrClosed is what writes get that Close overtook, and Run when it was closed or run anew while it connected.
	ErrClosed = fmt.Errorf("client: closed: %w", net.ErrClosed)
	// ErrQueueFull is what writes get while the outbound queue is at its bound: the server doesn't read.
	ErrQueueFull = outq.ErrFull
	// ErrBufferSize is returned by RunByBufferSize for a size of 0 or less.
	ErrBufferSize = errors.New("client: buffer size must be above 0")
	// ErrBadAddress is what Run and ForURL return, wrapped, for an address that can't be connected to.
	ErrBadAddress = errors.New("client: bad address")
	// ErrPacketTooLarge is what every error about a packet's size unwraps to.
	ErrPacketTooLarge = frame.ErrPacketTooLarge
)
