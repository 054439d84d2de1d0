package server

import "sync"

// mailbox hands the events of connections to one goroutine, in order: one per connection (WithAsyncHandlers) or one per
// server (WithSerialHandlers). What one connection may have waiting is bounded by that connection.
type mailbox struct {
	ended chan struct{} // closed when run has returned

	mu     sync.Mutex // guards the rest
	cond   sync.Cond
	events []event
	closed bool
}

// event is a step in a connection's life: a packet, or a function for its opening or its end.
type event struct {
	view   *Conn
	packet []byte
	call   func()
}

// happen runs the handlers.
func (e event) happen() {
	if e.call != nil {
		e.call()
		return
	}
	c := e.view.c
	c.waiting.Add(-int64(mailboxSize(e.packet)))
	if c.ending() {
		c.srv.stats.discarded.Add(1)
		return
	}
	c.srv.handlePacket(e.view, e.packet)
}

func newMailbox() *mailbox {
	b := &mailbox{ended: make(chan struct{})}
	b.cond.L = &b.mu
	return b
}

func (b *mailbox) put(e event) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
	b.cond.Signal()
}

// end makes run return when all that was put has been handled.
func (b *mailbox) end() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cond.Signal()
}

func (b *mailbox) run() {
	defer close(b.ended)
	var batch []event
	for {
		clear(batch)
		if batch = b.take(batch[:0]); len(batch) == 0 {
			return
		}
		for _, e := range batch {
			e.happen()
		}
	}
}

func (b *mailbox) take(spare []event) []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.events) == 0 && !b.closed {
		b.cond.Wait()
	}
	batch := b.events
	b.events = spare
	return batch
}

// mailboxSize is what a waiting packet counts: its bytes and what it takes to remember it.
func mailboxSize(packet []byte) int { return len(packet) + 64 }
