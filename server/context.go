package server

import "context"

// connContext is the context of a connection that somebody has asked for.
type connContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// Context returns a context that is cancelled as soon as the connection's end has begun, from either side and before its closed
// handlers run; context.Cause tells why: what Close was given, or what went wrong, or ErrConnClosed. It is for work on behalf of
// a client that is of no use without it. It has no deadline and no values, and is the same for all views of the connection.
func (c *Conn) Context() context.Context {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	if c.c.context == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		c.c.context = &connContext{ctx, cancel}
		if c.c.ended || c.c.leaving || c.c.closing.Load() {
			c.c.endContextLocked()
		}
	}
	return c.c.context.Context
}

// endContextLocked cancels the context, if anybody has it, once it is known why the connection ends. connection.mu is held: nothing
// that context.AfterFunc was given runs on this goroutine.
func (c *connection) endContextLocked() {
	if c.context == nil {
		return
	}
	cause := error(ErrConnClosed)
	if c.reason != nil && c.reason.err != nil {
		cause = c.reason.err
	}
	c.context.cancel(cause)
}
