// Package outq is the bounded queue of packets on their way out of one connection. Many goroutines put, and never
// block; one writes, and takes all that has gathered at once.
package outq

import (
	"errors"
	"runtime"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// ErrFull is returned by Put while the queue is at its bound.
var ErrFull = errors.New("outbound queue full")

// Queue is a queue of packets, bounded in bytes and in packets. What the writer has taken counts until it was written.
type Queue struct {
	mu                   sync.Mutex // guards the rest
	maxBytes, maxPackets int
	packets              []*frame.Packet
	spare                []*frame.Packet // the slice the writer gave back
	bytes                int             // of packets queued and of those being written
	count                int             // the same in packets
	closed               error           // why Put refuses; nil while open
	aborted              bool            // what is queued shall not be written any more
	wake                 chan struct{}   // holds a token when the writer has something to look at
	high                 bool            // above three quarters of maxBytes, and not yet below one quarter again
	watch                func()          // called, without the lock, when high has changed; nil: nobody looks
}

// New returns a queue that refuses packets above the bounds. A packet larger than maxBytes is accepted while the
// queue is empty, so that the largest packet doesn't depend on the bound.
func New(maxBytes, maxPackets int) *Queue {
	return &Queue{maxBytes: maxBytes, maxPackets: maxPackets, wake: make(chan struct{}, 1)}
}

// Bound changes the bounds. What is queued stays.
func (q *Queue) Bound(maxBytes, maxPackets int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxBytes, q.maxPackets = maxBytes, maxPackets
}

// Watch has changed called whenever High may have changed, on the goroutine that made it so. It is for a queue that
// nobody uses yet.
func (q *Queue) Watch(changed func()) { q.watch = changed }

// High reports whether the queue is filling up: it was above three quarters of its bound in bytes, and has not been below
// one quarter since.
func (q *Queue) High() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.high
}

// levelLocked brings high up to date, and reports whether somebody wants to know.
func (q *Queue) levelLocked() bool {
	was := q.high
	switch {
	case q.bytes > q.maxBytes/4*3:
		q.high = true
	case q.bytes < q.maxBytes/4:
		q.high = false
	}
	return was != q.high && q.watch != nil
}

// Put queues p, which the queue then owns: it will be finished exactly once. If Put returns an error (ErrFull, or what
// the queue was closed with) p is still the caller's, and is not finished. Put never blocks.
func (q *Queue) Put(p *frame.Packet) error {
	changed, err := q.put(p, false)
	if changed {
		q.watch()
	}
	return err
}

// Force is Put that no bound refuses: for small packets that must not be dropped.
func (q *Queue) Force(p *frame.Packet) error {
	changed, err := q.put(p, true)
	if changed {
		q.watch()
	}
	return err
}

func (q *Queue) put(p *frame.Packet, force bool) (changed bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return false, q.closed
	}
	n := len(p.Bytes())
	if !force && q.count > 0 && (q.bytes+n > q.maxBytes || q.count >= q.maxPackets) {
		return false, ErrFull
	}
	q.bytes += n
	q.count++
	q.packets = append(q.packets, p)
	if len(q.packets) == 1 {
		q.signalLocked()
	}
	return q.levelLocked(), nil
}

func (q *Queue) signalLocked() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Bytes returns how many bytes of payload are queued or being written.
func (q *Queue) Bytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// Close makes Put refuse with err from now on; what is queued is still written. The first error stays.
func (q *Queue) Close(err error) { q.end(err, false) }

// Abort makes Put refuse with err from now on; what is queued is finished with err by Run.
func (q *Queue) Abort(err error) { q.end(err, true) }

func (q *Queue) end(err error, abort bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
	q.aborted = q.aborted || abort
	q.signalLocked()
}

// Run writes until the queue was closed and is empty, and returns nil then; or until it was aborted or write failed,
// and returns that error. write gets the packets that have gathered, and returns how many of them, from the first on,
// the kernel took. Every packet is finished in order, on the calling goroutine; finish wraps those calls.
func (q *Queue) Run(write func([]*frame.Packet) (int, error), finish func(p *frame.Packet, err error)) error {
	for range q.wake {
		// Let those who are about to send do so first: one write for what gathers costs far less than one each.
		runtime.Gosched()
		for {
			batch, err := q.take()
			if err != nil {
				q.Discard(err, finish)
				return err
			}
			if batch == nil {
				break
			}
			n, err := write(batch)
			if err != nil {
				q.Abort(err)
			}
			q.settle(batch, n, err, finish)
		}
		if q.drained() {
			return nil
		}
	}
	return nil
}

// take returns what has gathered, nil if nothing has, or why the queue was aborted.
func (q *Queue) take() ([]*frame.Packet, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.aborted {
		return nil, q.closed
	}
	if len(q.packets) == 0 {
		return nil, nil
	}
	batch := q.packets
	q.packets, q.spare = q.spare[:0], nil
	return batch, nil
}

// settle finishes a batch of which n packets were written, and gives their room back.
func (q *Queue) settle(batch []*frame.Packet, n int, err error, finish func(*frame.Packet, error)) {
	bytes := 0
	for _, p := range batch {
		bytes += len(p.Bytes())
	}
	q.mu.Lock()
	q.bytes -= bytes
	q.count -= len(batch)
	changed := q.levelLocked()
	q.mu.Unlock()
	if changed {
		q.watch()
	}
	for i, p := range batch {
		if i < n {
			finish(p, nil)
		} else {
			finish(p, err)
		}
	}
	clear(batch)
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(batch) <= q.spareLimitLocked() {
		q.spare = batch[:0]
	}
}

// spareLimitLocked is how long a slice is kept for the next batch: an idle client shall hold next to nothing, a link is busy.
func (q *Queue) spareLimitLocked() int {
	if q.maxBytes >= 1<<20 {
		return 1024
	}
	return 16
}

func (q *Queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed != nil && len(q.packets) == 0
}

// Discard closes the queue with err and finishes what it still holds with err, in order. It is for a queue whose Run
// was never started, and for Run itself.
func (q *Queue) Discard(err error, finish func(*frame.Packet, error)) {
	q.mu.Lock()
	if q.closed == nil {
		q.closed = err
	}
	rest := q.packets
	for _, p := range rest {
		q.bytes -= len(p.Bytes())
	}
	q.count -= len(rest)
	q.packets = nil
	q.mu.Unlock()
	for _, p := range rest {
		finish(p, err)
	}
}
