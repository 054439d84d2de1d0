// Package outq is the bounded queue of packets on their way out of one connection. Many goroutines put, and never
// block; one at a time writes, and takes all that has gathered at once.
package outq

import (
	"errors"
	"math"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// ErrFull is returned by Put while the queue is at its bound.
var ErrFull = errors.New("outbound queue full")

// Queue is a queue of packets, bounded in bytes and in packets. What a writer has taken counts until it was written. While it is
// empty it holds nothing.
type Queue struct {
	mu                   sync.Mutex // guards the rest
	maxBytes, maxPackets int32
	queued               frame.List // and not taken
	bytes                int        // of packets queued and of those being written
	closed               error      // why Put refuses; nil while open
	waiter               *sync.Cond // of a goroutine that runs the queue; nil: none ever did
	watcher              Watcher    // nil: nobody looks
	count                int32      // of packets, as bytes
	held                 int32      // Holds without their Release
	aborted              bool       // what is queued shall not be written any more
	writing              bool       // somebody has taken packets, and not settled them
	blocked              bool       // the kernel took no more: Pump leaves it to whoever runs the queue
	loose                bool       // what is held needn't wait
	wanted               bool       // the goroutine that runs the queue waits for writing to be over
	high                 bool       // above three quarters of maxBytes, and not yet below one quarter again
}

// Watcher wants to know how full a queue is.
type Watcher interface {
	// LevelChanged is called whenever High may have changed, on the goroutine that made it so.
	LevelChanged()
}

// New returns a queue that refuses packets above the bounds. A packet larger than maxBytes is accepted while the
// queue is empty, so that the largest packet doesn't depend on the bound.
func New(maxBytes, maxPackets int) *Queue {
	q := &Queue{}
	q.Bound(maxBytes, maxPackets)
	return q
}

// Bound changes the bounds, each of which is 2^31-1 at the most. What is queued stays.
func (q *Queue) Bound(maxBytes, maxPackets int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxBytes, q.maxPackets = int32(min(maxBytes, math.MaxInt32)), int32(min(maxPackets, math.MaxInt32))
}

// Watch lets w know how full the queue is. It is for a queue that nobody uses yet.
func (q *Queue) Watch(w Watcher) { q.watcher = w }

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
	case q.bytes > int(q.maxBytes)/4*3:
		q.high = true
	case q.bytes < int(q.maxBytes)/4:
		q.high = false
	}
	return was != q.high && q.watcher != nil
}

// Put queues p, which the queue then owns: it will be finished exactly once. If Put returns an error (ErrFull, or what
// the queue was closed with) p is still the caller's, and is not finished. Put never blocks.
func (q *Queue) Put(p *frame.Packet) error {
	changed, err := q.put(p, false)
	if changed {
		q.watcher.LevelChanged()
	}
	return err
}

// Force is Put that no bound refuses: for small packets that must not be dropped.
func (q *Queue) Force(p *frame.Packet) error {
	changed, err := q.put(p, true)
	if changed {
		q.watcher.LevelChanged()
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
	if !force && q.count > 0 && (q.bytes+n > int(q.maxBytes) || q.count >= q.maxPackets) {
		return false, ErrFull
	}
	q.bytes += n
	q.count++
	first := q.queued.Empty()
	q.queued.Push(p)
	if p.HasCallback() && q.held > 0 { // somebody waits, who may be the one that holds
		q.loose = true
	}
	if (first || q.loose) && !q.holdsLocked() {
		q.signalLocked()
	}
	return q.levelLocked(), nil
}

// signalLocked wakes whoever runs the queue.
func (q *Queue) signalLocked() {
	if q.waiter != nil {
		q.waiter.Broadcast()
	}
}

// Bytes returns how many bytes of payload are queued or being written.
func (q *Queue) Bytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// Hold lets packets gather until Release, or Loosen, or one comes that has a callback, or the queue is closed.
func (q *Queue) Hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
}

// Release ends a Hold, and reports whether that was the last one and something is to be written.
func (q *Queue) Release() bool { return q.release(true) }

// Unhold is Release for whoever is about to Pump: the goroutine that runs the queue sleeps on, unless what is queued is its own to
// write.
func (q *Queue) Unhold() bool { return q.release(false) }

func (q *Queue) release(wake bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held--; q.held > 0 {
		return false
	}
	q.loose = false
	if q.queued.Empty() {
		return false
	}
	if wake || q.blocked {
		q.signalLocked()
	}
	return true
}

// Loosen makes all Holds hold nothing any more, until the last of them has ended.
func (q *Queue) Loosen() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held > 0 {
		q.loose = true
		q.signalLocked()
	}
}

// holdsLocked reports whether what is queued is to wait.
func (q *Queue) holdsLocked() bool { return q.held > 0 && !q.loose && q.closed == nil }

// Half reports whether the queue is half full.
func (q *Queue) Half() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > int(q.maxBytes)/2 || q.count > q.maxPackets/2
}

// Close makes Put refuse with err from now on; what is queued is still written. The first error stays.
func (q *Queue) Close(err error) { q.end(err, false) }

// Abort makes Put refuse with err from now on; what is queued is finished with err by whoever runs the queue.
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

// Discard closes the queue with err and finishes what it still holds with err, in order. It is for a queue that nobody runs,
// and for Run itself.
func (q *Queue) Discard(err error, finish func(*frame.Packet, error)) {
	q.mu.Lock()
	if q.closed == nil {
		q.closed = err
	}
	rest := q.takeLocked()
	q.writing = false
	q.mu.Unlock()
	q.giveRoom(*rest)
	finishAll(*rest, 0, err, finish)
	dropBatch(rest)
}
