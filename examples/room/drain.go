package main

import (
	"context"
	"errors"
	"log/slog"
)

// drain is a backend's getting rid of its players.
type drain struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when everybody has left, or time is up
	err    error         // then
}

// drain asks the gateway to move everybody elsewhere, and doesn't wait. A backend that drains already goes on with that.
func (b *backend) drain() *drain {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leaving != nil {
		return b.leaving
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	d := &drain{cancel: cancel, done: make(chan struct{})}
	b.leaving = d
	b.world.setState(b.name, draining)
	go b.runDrain(ctx, d)
	return d
}

func (b *backend) runDrain(ctx context.Context, d *drain) {
	defer close(d.done)
	defer d.cancel()
	switch d.err = b.link.Drain(ctx); {
	case d.err == nil:
		b.world.setState(b.name, empty)
	case !errors.Is(d.err, context.Canceled): // players are left, and moved as soon as there is somewhere to go
		slog.Warn("backend not empty", "backend", b.name, "err", d.err)
	}
}

// undrain makes the backend work again. It waits for the drain first, so that the last word is this one.
func (b *backend) undrain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.leaving == nil {
		return
	}
	b.leaving.cancel()
	<-b.leaving.done
	b.leaving = nil
	b.link.Undrain()
	b.world.setState(b.name, works)
}
