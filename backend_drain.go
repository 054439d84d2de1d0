package gateway

import (
	"context"
	"fmt"
	"time"
)

// drainCheck is how often Drain looks whether everybody has left.
const drainCheck = 10 * time.Millisecond

// Drain asks the gateways to move this backend's sessions to other endpoints of the same name, and to open no new ones here, and
// blocks until the last one has left and its closed handlers have returned. Each goes where its gateway's selector says: players
// that GetEndpointByKey has put together don't stay so, unless they are moved by MoveConn first. If ctx ends first, because there
// is nowhere to go, Drain returns ctx's error, wrapped, with the number of those that are left; they go on, and so does the
// draining: gateways move them as soon as they can. Undrain and Hold take it back, and make a Drain that waits return
// ErrUndrained, wrapped. Sessions of plain gateways and direct clients are left alone.
func (b *Backend) Drain(ctx context.Context) error {
	b.tellState(backendLeaving)
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	for {
		left := b.movable()
		if left == 0 {
			return nil
		}
		if b.stateNow() != backendLeaving {
			return fmt.Errorf("gateway: drain: %d sessions left: %w", left, ErrUndrained)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("gateway: drain: %d sessions left: %w", left, ctx.Err())
		}
	}
}

// Hold asks the gateways to open no new sessions here; those that are open stay.
func (b *Backend) Hold() { b.tellState(backendDraining) }

// Undrain takes Drain and Hold back: the backend works again.
func (b *Backend) Undrain() { b.tellState(backendWorking) }

// tellState tells every gateway, and those that link from now on.
func (b *Backend) tellState(state backendState) {
	b.mu.Lock()
	b.state = state
	b.mu.Unlock()
	for _, l := range b.readyLinks() {
		l.trySend(append(beginControl(false, ctlDrain, 1), byte(state)))
	}
}

func (b *Backend) stateNow() backendState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// movable is how many sessions a gateway could move, or has moved without their closed handlers having returned yet.
func (b *Backend) movable() int {
	if n := b.open(); n > 0 {
		return n
	}
	n := 0
	for _, conn := range b.srv.GetOnlineAll() {
		if s := b.sessionOf(conn); s != nil && !s.peer.plain {
			n++
		}
	}
	return n
}

// open is how many sessions gateways have open here.
func (b *Backend) open() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.peers {
		p.mu.Lock()
		if !p.plain {
			n += len(p.sessions)
		}
		p.mu.Unlock()
	}
	return n
}

func (b *Backend) readyLinks() []*backlink {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*backlink
	for l := range b.links {
		if !l.plain && l.ready() {
			all = append(all, l)
		}
	}
	return all
}
