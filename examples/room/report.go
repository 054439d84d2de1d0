package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// faultsPrinted is how many faults are printed: one often comes with many more.
const faultsPrinted = 10

// report counts what backends and bots tell it, and prints it.
type report struct {
	out   io.Writer
	began time.Time

	mu     sync.Mutex // guards the rest
	counts counts
	faults int // what bots have seen that should not be
}

type counts struct {
	players int    // that came, bots and browsers
	casts   int    // one for each tick of each backend
	moves   int    // of players from one backend to another
	lost    uint64 // moves of dots that never came
	late    int    // moves of dots that came twice, or after a later one
}

func newReport(out io.Writer) *report { return &report{out: out, began: time.Now()} }

func (r *report) joined()       { r.count(func(c *counts) { c.players++ }) }
func (r *report) cast()         { r.count(func(c *counts) { c.casts++ }) }
func (r *report) moved()        { r.count(func(c *counts) { c.moves++ }) }
func (r *report) lost(n uint64) { r.count(func(c *counts) { c.lost += n }) }
func (r *report) late()         { r.count(func(c *counts) { c.late++ }) }

func (r *report) count(add func(c *counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.counts)
}

func (r *report) totals() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// fault counts what a bot has to complain about, and prints the first few.
func (r *report) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faults++; r.faults <= faultsPrinted {
		r.sayLocked("FAULT: "+format, args...)
	}
}

// say prints a line.
func (r *report) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sayLocked(format, args...)
}

func (r *report) sayLocked(format string, args ...any) {
	fmt.Fprintf(r.out, "%6.2fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// summary prints the totals, and reports whether everything was as it should be: no bot was cut off or without its dot, and
// every move of every dot came, once and in order.
func (r *report) summary() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	ok := r.faults == 0 && c.lost == 0 && c.late == 0
	verdict := "all is well"
	if !ok {
		verdict = fmt.Sprintf("SOMETHING IS WRONG, with %d faults", r.faults)
	}
	fmt.Fprintf(r.out, "%d players, %d casts, %d moves to another backend, %d lost updates, %d late ones: %s\n",
		c.players, c.casts, c.moves, c.lost, c.late, verdict)
	return ok
}
