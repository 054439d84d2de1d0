package main

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// travelTime is how long the dot of a player who is on the way to another backend is kept.
const travelTime = 3 * time.Second

// world is what the backends share. They would be processes on machines of their own, and this would be the game's
// database, or what they publish to each other: nothing but a world is shared between them here either.
type world struct {
	mu     sync.Mutex // guards the rest
	lastID int
	dots   map[int]*dot
	states map[string]backendState
}

// dot is a player as everybody sees it.
type dot struct {
	player
	On    string    `json:"on"` // the backend
	until time.Time // when to forget it, unless a backend takes it up; zero: one has
}

// backendState is what the page shows about a backend.
type backendState string

const (
	works    backendState = "works"
	draining backendState = "draining"
	empty    backendState = "empty"
)

func newWorld() *world {
	return &world{dots: map[int]*dot{}, states: map[string]backendState{}}
}

// newID returns a number that no other player has or had.
func (w *world) newID() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastID++
	return w.lastID
}

// show puts a player's dot where the player is, on the backend that says so.
func (w *world) show(p player, backend string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dots[p.ID] = &dot{player: p, On: backend}
}

// leave takes a player's dot away, or keeps it for a while if the player travels. The next backend may have taken it up
// before this one knows that the player has gone, and then it is not this one's any more.
func (w *world) leave(id int, backend string, travels bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch d := w.dots[id]; {
	case d == nil || d.On != backend:
	case travels:
		d.until = time.Now().Add(travelTime)
	default:
		delete(w.dots, id)
	}
}

func (w *world) setState(backend string, state backendState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[backend] = state
}

// picture returns everything, the oldest player first.
func (w *world) picture() picture {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(w.dots, func(_ int, d *dot) bool { return !d.until.IsZero() && now.After(d.until) })
	pic := picture{Dots: make([]dot, 0, len(w.dots)), Backends: maps.Clone(w.states)}
	for _, d := range w.dots {
		pic.Dots = append(pic.Dots, *d)
	}
	slices.SortFunc(pic.Dots, func(a, b dot) int { return cmp.Compare(a.ID, b.ID) })
	return pic
}
