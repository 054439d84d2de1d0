package gateway

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Stats are a gateway's counters since it was made.
type Stats struct {
	ConnectionsOpened, ConnectionsClosed uint64
	LinksOpened, LinksClosed             uint64

	PacketsReceived  uint64 // from clients
	PacketsForwarded uint64 // to endpoints, handed to the kernel
	PacketsMoved     uint64 // taken from a lost link to another one before they were written
	ForwardsFailed   uint64 // Forwards whose callback got an error, for whatever reason

	PacketsFromEndpoints uint64 // whole packets read from links
	PacketsDelivered     uint64 // of those, given to the handlers; casts: to the clients' queues
	DroppedMalformed     uint64 // of those, shorter than a header
	DroppedControl       uint64 // of those, addressed to 0.0.0.0:0
	DroppedUnknown       uint64 // of those, for a client that isn't there (any more)
	DroppedNotOpen       uint64 // of those, for a client that was never forwarded to that endpoint, or has moved on

	// Of endpoints that speak the session protocol.
	LostUp         uint64 // packets written to links that were lost, and not brought by them
	LostDown       uint64 // packets that backends had written to those, and that never came
	Casts          uint64 // packets for many clients at once, each counted above once for every client
	MovesTimedOut  uint64 // moves that the old backend didn't answer in time
	HandoffsFailed uint64 // to a name that has no usable endpoint
	Kicked         uint64 // connections closed by their endpoint
	ControlStray   uint64 // control packets about clients that are not open on that link
	ControlUnknown uint64 // control packets of a type that this version doesn't know
	ControlUnsent  uint64 // control packets that a lost or full link didn't take

	Unanswered    uint64 // packets to which an endpoint sent nothing back in time
	Scans         uint64 // whose endpoints the gateway has adopted, and begun to link to
	ScansFailed   uint64
	HandlerPanics uint64 // recovered by the gateway; the server counts its own
}

type counter int

const (
	connsOpened counter = iota
	connsClosed
	linksOpened
	linksClosed
	received
	forwarded
	moved
	forwardsFailed
	fromEndpoints
	delivered
	droppedMalformed
	droppedControl
	droppedUnknown
	droppedNotOpen
	lostUp
	lostDown
	casts
	movesTimedOut
	handoffsFailed
	kicked
	controlStray
	controlUnknown
	controlUnsent
	unanswered
	scans
	scansFailed
	handlerPanics
	counters
)

// counts are the counters, and when each was last logged.
type counts struct {
	n      [counters]atomic.Uint64
	logged [counters]atomic.Int64 // Unix nanoseconds
}

func (c *counts) add(k counter) { c.n[k].Add(1) }

// drop counts something that was dropped, and says so once a second at most.
func (c *counts) drop(log *slog.Logger, k counter, reason string, endpoint *Endpoint) {
	total := c.n[k].Add(1)
	now := time.Now().UnixNano()
	last := c.logged[k].Load()
	if now-last >= int64(time.Second) && c.logged[k].CompareAndSwap(last, now) {
		log.Warn("packet dropped", "reason", reason, "endpoint", endpoint.name, "address", endpoint.address, "total", total)
	}
}

// Stats returns the counters.
func (g *Gateway) Stats() Stats {
	get := func(k counter) uint64 { return g.counts.n[k].Load() }
	return Stats{
		ConnectionsOpened: get(connsOpened), ConnectionsClosed: get(connsClosed),
		LinksOpened: get(linksOpened), LinksClosed: get(linksClosed),
		PacketsReceived: get(received), PacketsForwarded: get(forwarded), PacketsMoved: get(moved),
		ForwardsFailed: get(forwardsFailed), PacketsFromEndpoints: get(fromEndpoints), PacketsDelivered: get(delivered),
		DroppedMalformed: get(droppedMalformed), DroppedControl: get(droppedControl),
		DroppedUnknown: get(droppedUnknown), DroppedNotOpen: get(droppedNotOpen),
		LostUp: get(lostUp), LostDown: get(lostDown), Casts: get(casts), MovesTimedOut: get(movesTimedOut), HandoffsFailed: get(handoffsFailed), Kicked: get(kicked), ControlStray: get(controlStray),
		ControlUnknown: get(controlUnknown), ControlUnsent: get(controlUnsent),
		Unanswered: get(unanswered), Scans: get(scans), ScansFailed: get(scansFailed), HandlerPanics: get(handlerPanics),
	}
}
