package main

import (
	"context"
	"sync"
)

// newcomers is how many bots leave each second, and how many come in their place: only new players are given to an
// endpoint that has come back.
const newcomers = 15

// crowd is all bots. It belongs to one goroutine.
type crowd struct {
	report  *report
	members []member // the oldest first
	last    int      // number of the newest bot; numbers are never used again
	bots    sync.WaitGroup
}

type member struct {
	front *front
	leave context.CancelFunc
}

func newCrowd(report *report) *crowd { return &crowd{report: report} }

// join lets n bots connect to a gateway.
func (c *crowd) join(f *front, n int) {
	for range n {
		c.last++
		b := newBot(c.last, f.client(), c.report)
		ctx, cancel := context.WithCancel(context.Background())
		c.members = append(c.members, member{front: f, leave: cancel})
		c.bots.Go(func() { b.run(ctx) })
	}
}

// churn replaces the oldest bots by new ones.
func (c *crowd) churn() {
	old := c.members[:newcomers]
	c.members = c.members[newcomers:]
	for _, m := range old {
		m.leave()
		c.join(m.front, 1)
	}
}

// leave lets every bot end its last message, and waits for them.
func (c *crowd) leave() {
	for _, m := range c.members {
		m.leave()
	}
	c.bots.Wait()
}
