package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// bot is one client. One goroutine reads it. In a closed loop that one also sends, each packet once the one before
// was answered; with a rate a pacer sends.
type bot struct {
	id    uint32 // static, as are the next three
	sock  *socket
	load  *load
	tally *shard

	gone atomic.Bool // its connection has ended

	sending     sync.Mutex // held while packets are made and written, before mu; guards the next two
	packet, out []byte

	mu     sync.Mutex // guards the rest
	flight flight
}

// read handles what comes until the connection's end.
func (b *bot) read() {
	for {
		packet, err := b.sock.next()
		if err != nil {
			if b.trouble(fmt.Errorf("client %d: read: %w", b.id, err)) {
				return
			}
			continue
		}
		if b.arrive(packet) && b.load.cfg.closedLoop() {
			b.sendNext()
		}
	}
}

// arrive judges a packet, and reports whether it is the reply that was waited for.
func (b *bot) arrive(packet []byte) bool {
	now := b.load.now()
	id, number, ok := b.load.packets.read(packet)
	switch {
	case !ok:
		b.tally.fault(func(c *counts) { c.Corrupted++ })
		return false
	case id != b.id:
		b.tally.fault(func(c *counts) { c.Misrouted++ })
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	what, at := b.flight.answer(number)
	b.tally.reply(what, at, now)
	return what == answered || what == outOfOrder
}

// sendNextLocked sends a closed loop's packet now, unless it is over. sending is held.
func (b *bot) sendNextLocked() {
	if b.load.stopped() || b.gone.Load() {
		return
	}
	b.putLocked(b.load.now())
	b.flushLocked()
}

// putLocked makes a packet that is to be sent at a time. sending is held.
func (b *bot) putLocked(at int64) {
	if b.gone.Load() {
		b.tally.unsent(at)
		return
	}
	// Noted before it is written: the reply may arrive before Write returns.
	b.mu.Lock()
	number := b.flight.put(at)
	b.mu.Unlock()
	b.tally.sent(at)
	b.packet = b.load.packets.append(b.packet[:0], b.id, number)
	b.out = b.sock.mark(b.out, b.packet)
}

// flushLocked writes what was put. sending is held.
func (b *bot) flushLocked() {
	if len(b.out) == 0 {
		return
	}
	err := b.sock.write(b.out, b.load.cfg.timeout)
	b.out = b.out[:0]
	if err != nil {
		b.trouble(fmt.Errorf("client %d: write: %w", b.id, err))
	}
}

// put and flush are for a pacer.
func (b *bot) put(at int64) {
	b.sending.Lock()
	defer b.sending.Unlock()
	b.putLocked(at)
}

func (b *bot) flush() {
	b.sending.Lock()
	defer b.sending.Unlock()
	b.flushLocked()
}

// sendNext sends the next packet of a closed loop.
func (b *bot) sendNext() {
	b.sending.Lock()
	defer b.sending.Unlock()
	b.sendNextLocked()
}

// trouble counts an error of the connection, and reports whether that is its end.
func (b *bot) trouble(err error) (ended bool) {
	if b.load.closing.Load() {
		return true
	}
	if b.sock.datagrams && !errors.Is(err, net.ErrClosed) { // such as that nobody listened when the last one came
		b.tally.failed(err)
		return false
	}
	if !b.gone.Swap(true) {
		b.tally.failed(err)
		b.sock.conn.Close()
		b.load.lose()
	}
	return true
}

// giveUp counts packets that were sent before a time as lost. The closed loop goes on with the next one.
func (b *bot) giveUp(before int64) {
	if b.load.cfg.closedLoop() {
		if !b.sending.TryLock() { // it is about to send, or the socket takes nothing, which has a timeout of its own
			return
		}
		defer b.sending.Unlock()
	}
	b.mu.Lock()
	n := b.flight.giveUp(before, b.tally.lost)
	b.mu.Unlock()
	if n > 0 && b.load.cfg.closedLoop() {
		b.sendNextLocked()
	}
}

// waits reports whether a packet has no reply yet, or is about to be sent.
func (b *bot) waits() bool {
	if !b.sending.TryLock() {
		return true
	}
	defer b.sending.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flight.open > 0
}
