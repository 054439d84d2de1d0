package server

import (
	"time"

	"golang.org/x/time/rate"
)

// guard is what limits and admission have to remember of one connection. One that has said nothing yet, or never may say too much, has
// none. It is owned by the goroutine that reads.
type guard struct {
	gate    *gate         // nil: the connection isn't held back
	packets *rate.Limiter // nil: no limit, or nothing has come, as in the next
	bytes   *rate.Limiter
}

// guarded returns the connection's guard, which it has from now on.
func (c *connection) guarded() *guard {
	if c.guard == nil {
		c.guard = &guard{}
	}
	return c.guard
}

// tooFast counts what a client has sent, and reports whether it was more than it may, which closes it: on a stream nobody else can have
// sent it. Of datagrams it costs those that are too many. size is a packet's, 0 for what is none.
func (c *connection) tooFast(size int) bool {
	l := &c.srv.opts.limits
	if !l.packets.limits() && !l.bytes.limits() || c.link {
		return false
	}
	g := c.guarded()
	if g.packets == nil && g.bytes == nil {
		g.packets, g.bytes = l.packets.limiter(), l.bytes.limiter()
	}
	now := time.Now()
	if (g.packets == nil || g.packets.AllowN(now, 1)) && (g.bytes == nil || g.bytes.AllowN(now, size)) {
		return false
	}
	if c.forgeable() {
		c.srv.stats.discarded.Add(1)
		return true
	}
	if c.close(closeReason{err: ErrRateLimited, code: codePolicyViolation, text: "too much at once"}) {
		c.srv.stats.tooFast.Add(1)
	}
	return true
}
