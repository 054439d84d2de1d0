package server

import "sync"

// turn lets the events of one connection happen one at a time and in order, on the goroutine that brings them: if another
// is at it, that one goes on with what was brought meanwhile. What may wait is bounded by the connection.
type turn struct {
	mu      sync.Mutex // guards the rest
	busy    bool
	waiting []event
}

func (t *turn) put(e event) {
	t.mu.Lock()
	if t.busy {
		t.waiting = append(t.waiting, e)
		t.mu.Unlock()
		return
	}
	t.busy = true
	t.mu.Unlock()
	t.run(e)
}

// begin reports whether nobody is at it, and nothing waits. Then it is the caller's turn, until rest.
func (t *turn) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy {
		return false
	}
	t.busy = true
	return true
}

// rest lets happen what waits, and ends the turn.
func (t *turn) rest() {
	for e, ok := t.next(); ok; e, ok = t.next() {
		e.happen()
	}
}

// run lets e happen, and what waits behind it. The turn is busy already.
func (t *turn) run(e event) {
	e.happen()
	t.rest()
}

// next returns the event that waits longest, or ends the turn.
func (t *turn) next() (event, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.busy, t.waiting = false, nil
		return event{}, false
	}
	e := t.waiting[0]
	t.waiting[0] = event{}
	t.waiting = t.waiting[1:]
	return e, true
}
