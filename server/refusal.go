package server

import (
	"sync/atomic"
	"time"
)

// Refusal is why a connection was not let in.
type Refusal string

// The reasons. Each has a counter of its own: see Stats.
const (
	RefusedShutdown  Refusal = "shutting down"
	RefusedHandshake Refusal = "handshake failed"              // of TLS, HTTP or a proxy, or it took too long
	RefusedProxy     Refusal = "client not named by its proxy" // WithTrustedProxies
	RefusedRequest   Refusal = "request not upgraded"          // of another path or origin, by an initializer, or not for a WebSocket

	RefusedTotal         Refusal = "too many connections"                  // WithMaxConnections
	RefusedAddress       Refusal = "too many connections from the address" // WithMaxConnectionsPerAddress
	RefusedPrefix        Refusal = "too many connections from the network" // WithMaxConnectionsPerPrefix
	RefusedRate          Refusal = "too many new connections"              // WithConnectionRate
	RefusedAdmission     Refusal = "not admitted"                          // WithAdmission: its function said so, or panicked
	RefusedAdmissionTime Refusal = "not admitted in time"                  // WithAdmission: the deadline passed

	RefusedHalfOpen  Refusal = "too many unfinished handshakes" // of transports that shake hands by themselves: transport/kcp
	RefusedTransport Refusal = "refused by the transport"       // for a reason that is not in this list

	RefusedUDPSessions Refusal = "too many UDP sessions"                  // UDPLimits.Sessions
	RefusedUDPPrefix   Refusal = "too many UDP sessions from the network" // UDPLimits.PerPrefix
	RefusedUDPRate     Refusal = "too many new UDP sessions"              // UDPLimits.Rate
)

// refusals lists every Refusal, in the order of their counters.
var refusals = [...]Refusal{
	RefusedShutdown, RefusedHandshake, RefusedProxy, RefusedRequest,
	RefusedTotal, RefusedAddress, RefusedPrefix, RefusedRate, RefusedAdmission, RefusedAdmissionTime,
	RefusedHalfOpen, RefusedTransport, RefusedUDPSessions, RefusedUDPPrefix, RefusedUDPRate,
}

// refusalCounters counts the connections that were not let in.
type refusalCounters [len(refusals)]refusalCounter

// refusalCounter counts those of one reason.
type refusalCounter struct {
	count atomic.Uint64
	told  atomic.Uint64 // of these, how many the log knows of
	at    atomic.Int64  // when it was told last, since the server was made; 0: never
}

func (c *refusalCounters) of(r Refusal) *refusalCounter {
	for i := range refusals {
		if refusals[i] == r {
			return &c[i]
		}
	}
	return c.of(RefusedTransport)
}

func (c *refusalCounters) add(r Refusal) { c.of(r).count.Add(1) }

// refuse is add at a time since the server was made. Once a second it is to be told to the log how many there were since it last was.
func (c *refusalCounters) refuse(r Refusal, now time.Duration) (count uint64, tell bool) {
	of := c.of(r)
	n := of.count.Add(1)
	last := of.at.Load()
	if last != 0 && now-time.Duration(last) < time.Second || !of.at.CompareAndSwap(last, int64(now)+1) {
		return 0, false
	}
	return n - of.told.Swap(n), true
}

// all returns the counters that aren't 0, and their sum.
func (c *refusalCounters) all() (byReason map[Refusal]uint64, sum uint64) {
	for i, r := range refusals {
		n := c[i].count.Load()
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
