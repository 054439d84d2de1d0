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

// run lets e happen, and what waits behind it. The turn is busy already.
func (t *turn) run(e event) {
	for ok := true; ok; e, ok = t.next() {
		e.happen()
	}
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
