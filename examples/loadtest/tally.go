package main

import (
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// counts is what is counted. The first group is of the packets of the window, by when they were to be sent, however late
// their replies come: Sent = Answered + Lost. The second is of everything that arrives, warm-up included.
type counts struct {
	Sent     int64 `json:"sent"`
	Answered int64 `json:"answered"`
	Lost     int64 `json:"lost"`   // no reply within the timeout
	Late     int64 `json:"late"`   // those of the lost whose reply came after all
	Unsent   int64 `json:"unsent"` // due on a connection that had ended, or when there was no time left for it

	Misrouted  int64 `json:"misrouted"` // another client's
	Corrupted  int64 `json:"corrupted"` // not as any packet was sent
	Doubled    int64 `json:"doubled"`
	OutOfOrder int64 `json:"out_of_order"` // answered, but after the reply to a later packet
	Errors     int64 `json:"errors"`       // of connections

	// Replies that were right and in time, by when they came.
	arrived  int64 // whenever
	inWindow int64 // since the window has begun
}

func (c *counts) add(other *counts) {
	c.Sent += other.Sent
	c.Answered += other.Answered
	c.Lost += other.Lost
	c.Late += other.Late
	c.Unsent += other.Unsent
	c.Misrouted += other.Misrouted
	c.Corrupted += other.Corrupted
	c.Doubled += other.Doubled
	c.OutOfOrder += other.OutOfOrder
	c.Errors += other.Errors
	c.arrived += other.arrived
	c.inWindow += other.inWindow
}

// shard is what a part of the clients count in.
type shard struct {
	begin int64 // static: of the window

	mu         sync.Mutex // guards the rest
	counts     counts
	latency    *hdrhistogram.Histogram
	firstError error
}

// newHistogram is for nanoseconds, by microseconds with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(2*maxTimeout), 3)
}

// recordIn records a duration in nanoseconds, the longest that h knows if it is longer.
func recordIn(h *hdrhistogram.Histogram, d int64) {
	_ = h.RecordValue(min(max(d, 0), int64(2*maxTimeout))) // which is in its range
}

// tally is all shards.
type tally []*shard

func newTally(begin int64) tally {
	t := make(tally, 2*runtime.GOMAXPROCS(0))
	for i := range t {
		t[i] = &shard{begin: begin, latency: newHistogram()}
	}
	return t
}

// begin is when the window begins.
func (t tally) begin() int64 { return t[0].begin }

// of returns the shard for a client.
func (t tally) of(client int) *shard { return t[client%len(t)] }

// sum returns what all have counted.
func (t tally) sum() (total counts) {
	for _, s := range t {
		s.mu.Lock()
		total.add(&s.counts)
		s.mu.Unlock()
	}
	return total
}

func (t tally) latency() *hdrhistogram.Histogram {
	all := newHistogram()
	for _, s := range t {
		s.mu.Lock()
		all.Merge(s.latency)
		s.mu.Unlock()
	}
	return all
}

func (t tally) firstError() error {
	for _, s := range t {
		s.mu.Lock()
		err := s.firstError
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *shard) sent(at int64) { s.count(at, func(c *counts) { c.Sent++ }) }
func (s *shard) lost(at int64) { s.count(at, func(c *counts) { c.Lost++ }) }

func (s *shard) unsent(at int64) { s.count(at, func(c *counts) { c.Unsent++ }) }

// count counts for a packet, if that is one of the window.
func (s *shard) count(at int64, one func(*counts)) {
	if at < s.begin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one(&s.counts)
}

// fault counts what has nothing to do with the window.
func (s *shard) fault(one func(*counts)) { s.count(s.begin, one) }

func (s *shard) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Errors++
	if s.firstError == nil {
		s.firstError = err
	}
}

// reply counts a right reply, to a packet of the time at, by what it turned out to be.
func (s *shard) reply(what outcome, at, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch what {
	case doubled:
		s.counts.Doubled++
		return
	case neverSent:
		s.counts.Corrupted++
		return
	case late:
		if at >= s.begin {
			s.counts.Late++
		}
		return
	case outOfOrder:
		s.counts.OutOfOrder++
	}
	s.counts.arrived++
	if now >= s.begin {
		s.counts.inWindow++
	}
	if at >= s.begin {
		s.counts.Answered++
		recordIn(s.latency, now-at)
	}
}
