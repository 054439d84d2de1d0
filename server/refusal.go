package server

import "sync/atomic"

// Refusal is why a connection was not let in.
type Refusal string

// The reasons. Each has a counter of its own: see Stats.
const (
	RefusedShutdown  Refusal = "shutting down"
	RefusedHandshake Refusal = "handshake failed"               // of TLS, HTTP or a proxy, or it took too long
	RefusedHalfOpen  Refusal = "too many unfinished handshakes" // at once, in all or from one range of addresses
)

// refusals lists every Refusal, in the order of their counters.
var refusals = [...]Refusal{RefusedShutdown, RefusedHandshake, RefusedHalfOpen}

// refusalCounters counts the connections that were not let in.
type refusalCounters [len(refusals)]atomic.Uint64

func (c *refusalCounters) add(r Refusal) {
	for i := range refusals {
		if refusals[i] == r {
			c[i].Add(1)
			return
		}
	}
}

// all returns the counters that aren't 0, and their sum.
func (c *refusalCounters) all() (byReason map[Refusal]uint64, sum uint64) {
	for i, r := range refusals {
		n := c[i].Load()
		if n == 0 {
			continue
		}
		if byReason == nil {
			byReason = map[Refusal]uint64{}
		}
		byReason[r] = n
		sum += n
	}
	return byReason, sum
}
