package gateway

import "sync/atomic"

// BackendStats are a backend's counters since it was made.
type BackendStats struct {
	LinksRefused   uint64 // closed because of their handshake, or a malformed packet
	Sessions       int    // open now, detached ones too
	StrayData      uint64 // packets from gateways for sessions that are not open on that link
	StrayControl   uint64 // control packets for sessions that are not there
	ControlUnknown uint64 // control packets of a type that this version doesn't know
	ControlUnsent  uint64 // control packets that a lost or full link didn't take
	Discarded      uint64 // packets of links that were closing
	Casts          uint64 // CASTs queued, one for each link
	LostUp         uint64 // packets that gateways had written and lost links did not bring
	LostDown       uint64 // packets that had been written here and lost links did not bring
}

type backendCounts struct {
	linksRefused, strayData, strayControl, controlUnknown, controlUnsent, discarded, casts, lostUp, lostDown atomic.Uint64
}

// Stats returns the counters.
func (b *Backend) Stats() BackendStats {
	c := &b.stats
	stats := BackendStats{
		LinksRefused: c.linksRefused.Load(), StrayData: c.strayData.Load(), StrayControl: c.strayControl.Load(),
		ControlUnknown: c.controlUnknown.Load(), ControlUnsent: c.controlUnsent.Load(), Discarded: c.discarded.Load(),
		Casts: c.casts.Load(), LostUp: c.lostUp.Load(), LostDown: c.lostDown.Load(),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.peers {
		p.mu.Lock()
		stats.Sessions += len(p.sessions)
		p.mu.Unlock()
	}
	return stats
}
