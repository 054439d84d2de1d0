// Package loop waits for many plain sockets on few goroutines: epoll, edge-triggered, and one flush of every connection for each
// pass. It exists on Linux; elsewhere New returns ErrUnsupported.
//
// A descriptor is read, written and closed on its loop's goroutine only, so that nobody ever uses the number of one that was closed.
package loop

import (
	"errors"
	"time"
)

// ErrUnsupported is returned on systems that have no such loops.
var ErrUnsupported = errors.New("event loops are not supported on this system")

// ErrStopped is what connections of a loop end with that was stopped, or enrolled too late.
var ErrStopped = errors.New("event loop stopped")

// TickInterval is how often Handler.Tick is called.
const TickInterval = 100 * time.Millisecond

// Handler is a connection's owner. Its methods are called on the loop's goroutine, must not block, and are not called after
// Conn.Close.
type Handler interface {
	// Start comes first.
	Start()
	// Data gets what was read, which is valid until it returns.
	Data(p []byte)
	// End comes once, when nothing can be read any more: io.EOF, or what went wrong. The connection is still to be closed.
	End(err error)
	// Flush comes at the end of a pass after Wake was called, and when the kernel takes more after WriteNow gave less.
	Flush()
	// Tick comes from time to time.
	Tick(now time.Time)
	// Panicked gets what one of the others has panicked with. The connection is still to be closed.
	Panicked(value any, stack []byte)
}
