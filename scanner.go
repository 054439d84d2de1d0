package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Scanner finds endpoints. The gateway calls it on a goroutine of its own, which waits for it at shutdown.
type Scanner interface {
	GetEndpoints() ([]*Endpoint, error) // the endpoints that exist now
	GetInterval() time.Duration         // how long to wait before the next scan; 0 or less: one second
}

const (
	defaultScanInterval = time.Second
	longestScanBackoff  = 30 * time.Second // unless the interval itself is longer
	scanJitter          = 0.2
	emptiesBelieved     = 3 // scans in a row that find nothing under a name before that is believed
)

// NewStaticScanner returns a scanner that always finds the same endpoints.
func NewStaticScanner(endpoints ...*Endpoint) Scanner {
	return NewFuncScanner(time.Hour, func() ([]*Endpoint, error) { return endpoints, nil })
}

// NewFuncScanner returns a scanner that calls find every interval; 0 or less is one second.
func NewFuncScanner(interval time.Duration, find func() ([]*Endpoint, error)) Scanner {
	return funcScanner{interval: interval, find: find}
}

type funcScanner struct {
	interval time.Duration
	find     func() ([]*Endpoint, error)
}

func (s funcScanner) GetEndpoints() ([]*Endpoint, error) { return s.find() }
func (s funcScanner) GetInterval() time.Duration         { return s.interval }

var (
	errScanPanicked = errors.New("scanner panicked")
	errScanNilOnly  = errors.New("scanner returned nothing but nil entries")
)

// scanLoop compares what the scanner finds with what is live, until ctx is done.
func (g *Gateway) scanLoop(ctx context.Context, done chan struct{}) {
	defer close(done)
	empties := map[string]int{}
	for failures := 0; ; {
		found, err := g.scan()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			g.counts.add(scansFailed)
			g.log.Warn("scan failed, endpoints stay as they are", "failures", failures, "err", err)
		} else {
			failures = 0
			g.reconcile(found, empties)
			g.counts.add(scans)
		}
		timer := time.NewTimer(g.scanDelay(failures))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// scan asks the scanner once. nil entries are left out; a list of nothing else is an error.
func (g *Gateway) scan() (found []*Endpoint, err error) {
	var list []*Endpoint
	if !g.guard("scanner", func() { list, err = g.scanner.GetEndpoints() }) {
		return nil, errScanPanicked
	}
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e != nil {
			found = append(found, e)
		}
	}
	if skipped := len(list) - len(found); skipped > 0 {
		if len(found) == 0 {
			return nil, fmt.Errorf("%w: %d", errScanNilOnly, skipped)
		}
		g.log.Warn("scanner returned nil entries", "entries", skipped)
	}
	return found, nil
}

// scanDelay is the scanner's interval, doubled for each failure in a row, with jitter so that gateways don't ask in step.
func (g *Gateway) scanDelay(failures int) time.Duration {
	interval := defaultScanInterval
	g.guard("scanner interval", func() { interval = g.scanner.GetInterval() })
	if interval <= 0 {
		interval = defaultScanInterval
	}
	if failures == 0 {
		return interval
	}
	delay := interval
	for range failures {
		if delay *= 2; delay >= longestScanBackoff {
			break
		}
	}
	delay = max(interval, min(delay, longestScanBackoff))
	return time.Duration(float64(delay) * (1 + scanJitter*(2*rand.Float64()-1)))
}

// reconcile adopts what is new, retires what is gone, revives what is back, and drops what was retired and has nobody left.
func (g *Gateway) reconcile(found []*Endpoint, empties map[string]int) {
	listed := map[identity]bool{}
	names := map[string]bool{}
	for _, e := range found {
		id := identity{e.name, e.address}
		if listed[id] {
			continue // a twin
		}
		listed[id], names[e.name] = true, true
		g.adopt(id, e)
	}
	for name := range names {
		delete(empties, name)
	}
	missing := map[string]bool{}
	for e := range g.Endpoints() {
		switch {
		case listed[identity{e.name, e.address}]:
			if e.retired.Swap(false) {
				g.log.Info("endpoint revived", "endpoint", e.name, "address", e.address)
			}
		case e.retired.Load():
			g.dropIfDone(e)
		case names[e.name] || g.believeEmpty(e.name, missing, empties):
			g.retire(e)
		}
	}
	g.rebuild()
	g.evacuate()
}

// believeEmpty counts, once a scan, that nothing was found under a name that had endpoints, and reports whether that has
// been so often enough: a registry's hiccup must not take live players off their endpoint.
func (g *Gateway) believeEmpty(name string, missing map[string]bool, empties map[string]int) bool {
	if !missing[name] {
		missing[name] = true
		empties[name]++
	}
	return empties[name] >= emptiesBelieved
}

// adopt makes e known and starts its links, unless its like is known already.
func (g *Gateway) adopt(id identity, e *Endpoint) {
	g.mu.Lock()
	_, known := g.endpoints[id]
	g.mu.Unlock()
	if known {
		return
	}
	switch {
	case e.template == nil:
		g.log.Error("endpoint refused: it has no client", "endpoint", e.name)
		return
	case !e.template.KeepsBoundaries():
		g.log.Error("endpoint refused: its client's framer keeps no packet boundaries", "endpoint", e.name, "address", e.address)
		return
	case !e.template.Reliable():
		g.log.Error("endpoint refused", "endpoint", e.name, "address", e.address, "err", ErrUnreliableLink)
		return
	case e.bad != nil:
		g.log.Error("endpoint refused", "endpoint", e.name, "address", e.address, "err", e.bad)
		return
	case e.secrets != nil && e.plainOnly:
		g.log.Error("endpoint refused: WithLinkSecret and WithPlainLinks exclude each other", "endpoint", e.name, "address", e.address)
		return
	case e.gw.Load() == g:
		return // still being dropped: the next scan finds it free
	case !e.gw.CompareAndSwap(nil, g):
		g.log.Error("endpoint refused: another gateway has it", "endpoint", e.name, "address", e.address)
		return
	}
	g.mu.Lock()
	g.endpoints[id] = e
	g.mu.Unlock()
	g.log.Info("endpoint found", "endpoint", e.name, "address", e.address)
	e.start()
}

// retire takes an endpoint from the choice. Those who are bound to it stay, if it is alive.
func (g *Gateway) retire(e *Endpoint) {
	e.retired.Store(true)
	g.log.Info("endpoint retired", "endpoint", e.name, "address", e.address, "sessions", e.Sessions())
	if !e.usable() {
		g.dropIfDone(e)
	}
}

// dropIfDone drops a retired endpoint that is dead or has nobody left.
func (g *Gateway) dropIfDone(e *Endpoint) {
	if !e.usable() || e.Sessions() == 0 {
		g.drop(e)
	}
}

// drop forgets an endpoint, and flushes and closes its links on a goroutine that wind waits for.
func (g *Gateway) drop(e *Endpoint) {
	g.mu.Lock()
	delete(g.endpoints, identity{e.name, e.address})
	g.mu.Unlock()
	g.rebuild()
	g.log.Info("endpoint dropped", "endpoint", e.name, "address", e.address)
	g.drops.Go(e.stop)
}
