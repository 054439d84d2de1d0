package gateway

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	delayDecay   = 10 * time.Second // after which a sample counts 1/e
	maxDelay     = 5 * time.Second  // a reply that comes later is no measurement
	staleSamples = 10 * time.Second // without one, a link's dial time stands in
)

// health follows the delay of one endpoint as a peak-sensitive moving average, after Finagle's "Peak EWMA": a slower
// sample counts at once, faster ones and the mere passing of time bring the average down exponentially, so that an
// endpoint that once was slow gets tried again.
type health struct {
	unanswered atomic.Uint64 // packets to which nothing came back in time

	mu      sync.Mutex // guards the rest
	average float64    // nanoseconds
	at      time.Time  // when average was last brought up to date
	sampled time.Time  // when the last sample came; zero: never
}

// add takes a measured delay into account.
func (h *health) add(delay time.Duration) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	sample := float64(max(delay, 0))
	if weight := math.Exp(-float64(now.Sub(h.at)) / float64(delayDecay)); sample >= h.average*weight {
		h.average = sample
	} else {
		h.average = h.average*weight + sample*(1-weight)
	}
	h.at, h.sampled = now, now
}

// addDial takes the time that dialing took into account, as long as nothing better is known.
func (h *health) addDial(delay time.Duration) {
	h.mu.Lock()
	known := !h.sampled.IsZero() && time.Since(h.sampled) < staleSamples
	h.mu.Unlock()
	if !known {
		h.add(delay)
	}
}

// delay returns the average in nanoseconds, as it has decayed until now.
func (h *health) delay() float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.average == 0 {
		return 0
	}
	return h.average * math.Exp(-float64(time.Since(h.at))/float64(delayDecay))
}

// defaultEvaluator makes a state of a delay in nanoseconds: 1 / (1 + 1.5 * seconds).
func defaultEvaluator(costUnixNano float64) float64 {
	return 1 / (1 + 1.5*costUnixNano/float64(time.Second))
}
