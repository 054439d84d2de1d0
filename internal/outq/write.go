package outq

import (
	"runtime"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Who writes: one goroutine that runs the queue for good (Run), or whoever puts, as long as the kernel takes it (Pump), and a
// goroutine that runs it only until it is empty (RunOut), or an event loop (Drive).

// WriteFunc writes packets, in order, and returns how many of them, from the first on, the kernel took.
type WriteFunc func(packets []*frame.Packet) (int, error)

// FinishFunc calls a packet's Finish.
type FinishFunc func(p *frame.Packet, err error)

// Run writes until the queue was closed and is empty, and returns nil then; or until it was aborted or write failed,
// and returns that error. Every packet is finished in order, on the calling goroutine; finish wraps those calls.
func (q *Queue) Run(write WriteFunc, finish FinishFunc) error {
	for q.await() {
		// Let those who are about to send do so first: one write for what gathers costs far less than one each.
		runtime.Gosched()
		if err := q.RunOut(write, finish); err != nil {
			return err
		}
	}
	return nil
}

// await waits until there is something to do, and reports false when there is nothing left to be done.
func (q *Queue) await() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.aborted, !q.queued.Empty() && !q.holdsLocked():
			return true
		case q.closed != nil && !q.writing:
			return false
		case q.queued.Empty():
			q.blocked = false // everything that the kernel didn't take was written
		}
		q.waitLocked()
	}
}

func (q *Queue) waitLocked() {
	if q.waiter == nil {
		q.waiter = sync.NewCond(&q.mu)
	}
	q.waiter.Wait()
}

// RunOut is Run that returns nil as soon as there is nothing to write: nothing is queued, or a Hold holds it.
func (q *Queue) RunOut(write WriteFunc, finish FinishFunc) error {
	for {
		batch, _, err := q.take()
		if err != nil {
			q.Discard(err, finish)
			return err
		}
		if batch == nil {
			return nil
		}
		n, err := write(*batch)
		if err != nil {
			return q.fail(batch, n, err, finish)
		}
		q.settle(batch, n, nil, finish)
	}
}

// fail ends the queue with a write's error that came after n packets of a batch, and returns it: the queue may have been
// closed before, and then knows only of that.
func (q *Queue) fail(batch *[]*frame.Packet, n int, err error, finish FinishFunc) error {
	q.Abort(err)
	q.settle(batch, n, err, finish)
	q.Discard(err, finish)
	return err
}

// Pump writes what has gathered as far as write, which must not block, gets rid of it: write may return less than it was given,
// and no error. inline leaves packets with a callback to others: the caller may hold what a callback wants. It reports true
// where something is left that a goroutine has to write, by RunOut and Resign, or by Run, which it has woken. An error is write's,
// and the queue aborted.
func (q *Queue) Pump(write WriteFunc, finish FinishFunc, inline bool) (more bool, err error) {
	return q.pump(write, finish, inline, false)
}

// PumpHeld is Pump, with inline, that writes what a Hold holds too, which goes on. Where something is left it holds nothing any more.
func (q *Queue) PumpHeld(write WriteFunc, finish FinishFunc) (more bool, err error) {
	if more, err = q.pump(write, finish, true, true); more {
		q.Loosen()
	}
	return more, err
}

func (q *Queue) pump(write WriteFunc, finish FinishFunc, inline, held bool) (more bool, err error) {
	for {
		batch, more := q.takeNow(inline, held)
		if batch == nil {
			return more, nil
		}
		n, err := write(*batch)
		if err != nil {
			q.Abort(err)
			q.settle(batch, n, err, finish)
			return true, err // what has come meanwhile is to be finished
		}
		if n < len(*batch) {
			q.giveBack(batch, n, finish)
			return true, nil
		}
		q.settle(batch, n, nil, finish)
	}
}

// Drive is for the one goroutine that does all the writing of a queue, and doesn't wait: it writes as far as write gets rid of it,
// which may return less than it was given, and no error. drained: the queue was closed, and nothing is left. An error is write's,
// or why the queue was aborted; everything is finished then.
func (q *Queue) Drive(write WriteFunc, finish FinishFunc) (drained bool, err error) {
	batch, drained, err := q.take()
	for batch != nil {
		n, failed := write(*batch)
		if failed != nil {
			return false, q.fail(batch, n, failed, finish)
		}
		if n < len(*batch) {
			q.giveBack(batch, n, finish)
			return false, nil
		}
		batch, drained, err = q.settleAndTake(batch, finish)
	}
	if err != nil {
		q.Discard(err, finish)
	}
	return drained, err
}

// Resign is called by a goroutine whose RunOut has returned nil, and reports whether it may end: who puts next pumps. It may not
// while there is something to write. drained: the queue was closed, and nothing will be.
func (q *Queue) Resign() (resigned, drained bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return false, q.queued.Empty() && !q.aborted
	}
	if !q.queued.Empty() && !q.holdsLocked() {
		return false, false
	}
	q.blocked = false
	return true, false
}

// take returns what has gathered, nil if nothing has: drained, if nothing will, or why the queue was aborted. It waits for a
// writer to be done.
func (q *Queue) take() (batch *[]*frame.Packet, drained bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.writing {
		q.wanted = true
		q.waitLocked()
	}
	return q.nextLocked()
}

func (q *Queue) nextLocked() (batch *[]*frame.Packet, drained bool, err error) {
	switch {
	case q.aborted:
		return nil, false, q.closed
	case q.queued.Empty():
		return nil, q.closed != nil, nil
	case q.holdsLocked():
		return nil, false, nil
	}
	return q.takeLocked(), false, nil
}

// takeNow returns what has gathered, nil if nothing has or somebody else sees to it. more: that has to be a goroutine. held: what a
// Hold holds too.
func (q *Queue) takeNow(inline, held bool) (batch *[]*frame.Packet, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.queued.Empty(), q.writing, q.closed != nil:
		return nil, false
	case q.blocked:
		return nil, held && q.holdsLocked()
	case !held && q.holdsLocked():
		return nil, false
	}
	if inline && q.queued.HasCallback() {
		q.blocked = true
		q.signalLocked()
		return nil, true
	}
	return q.takeLocked(), false
}

var batches = sync.Pool{New: func() any { return new([]*frame.Packet) }}

const largestBatch = 1024 // packets, of a slice that is kept

func (q *Queue) takeLocked() *[]*frame.Packet {
	batch := batches.Get().(*[]*frame.Packet)
	for p := q.queued.Pop(); p != nil; p = q.queued.Pop() {
		*batch = append(*batch, p)
	}
	q.writing = true
	return batch
}

// settle finishes a batch of which n packets were written, and gives their room back.
func (q *Queue) settle(batch *[]*frame.Packet, n int, err error, finish FinishFunc) {
	q.giveRoom(*batch)
	finishAll(*batch, n, err, finish)
	q.doneWriting(nil)
	dropBatch(batch)
}

// settleAndTake is settle of a batch that was written, and take.
func (q *Queue) settleAndTake(batch *[]*frame.Packet, finish FinishFunc) (next *[]*frame.Packet, drained bool, err error) {
	q.giveRoom(*batch)
	finishAll(*batch, len(*batch), nil, finish)
	dropBatch(batch)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = false
	q.signalLocked()
	return q.nextLocked()
}

// giveBack finishes the n packets of a batch that were written, and puts the others where they were.
func (q *Queue) giveBack(batch *[]*frame.Packet, n int, finish FinishFunc) {
	q.giveRoom((*batch)[:n])
	finishAll((*batch)[:n], n, nil, finish)
	q.doneWriting((*batch)[n:])
	dropBatch(batch)
}

// giveRoom makes packets no longer count.
func (q *Queue) giveRoom(packets []*frame.Packet) {
	bytes := 0
	for _, p := range packets {
		bytes += len(p.Bytes())
	}
	q.mu.Lock()
	q.bytes -= bytes
	q.count -= int32(len(packets))
	changed := q.levelLocked()
	q.mu.Unlock()
	if changed {
		q.watcher.LevelChanged()
	}
}

// finishAll finishes packets of which n were written.
func finishAll(packets []*frame.Packet, n int, err error, finish FinishFunc) {
	for i, p := range packets {
		if i < n {
			finish(p, nil)
		} else {
			finish(p, err)
		}
		p.Recycle()
	}
}

// doneWriting ends a writer's turn, after its packets were finished, so that those of the next are finished later. rest is queued
// before everything else, and blocks the queue.
func (q *Queue) doneWriting(rest []*frame.Packet) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queued.PushFront(rest)
	q.blocked = q.blocked || len(rest) > 0
	q.writing = false
	if q.wanted || q.closed != nil || !q.queued.Empty() { // waking who runs the queue costs more than a write
		q.wanted = false
		q.signalLocked()
	}
}

func dropBatch(batch *[]*frame.Packet) {
	clear(*batch)
	if *batch = (*batch)[:0]; cap(*batch) <= largestBatch {
		batches.Put(batch)
	}
}
