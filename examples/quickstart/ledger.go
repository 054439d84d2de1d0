package main

import (
	"maps"
	"sync"

	"github.com/minotaur-gateway/gateway"
)

// ledger knows a gateway's open messages: those that were forwarded and are not answered.
type ledger struct {
	mu   sync.Mutex // guards the rest
	open map[message]*forwarded
}

// message is what a player sent.
type message struct{ conn, text string }

// forwarded says where a message went, and whether Forward's callback has said that the kernel took it.
type forwarded struct {
	endpoint *gateway.Endpoint
	written  bool
}

func newLedger() *ledger { return &ledger{open: map[message]*forwarded{}} }

func (l *ledger) forwarding(m message, endpoint *gateway.Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[m] = &forwarded{endpoint: endpoint}
}

// written notes that the kernel has the message. The reply may have come before.
func (l *ledger) written(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.open[m]; ok {
		f.written = true
	}
}

// end closes a message that was answered or could not be forwarded.
func (l *ledger) end(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, m)
}

// forget closes the messages of a player who has left.
func (l *ledger) forget(conn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.open, func(m message, _ *forwarded) bool { return m.conn == conn })
}

// lose closes what was written to an endpoint that has died, and returns it. What was not written is not lost: its
// callback has got an error, or is about to.
func (l *ledger) lose(endpoint *gateway.Endpoint) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []string
	for m, f := range l.open {
		if f.endpoint == endpoint && f.written {
			lost = append(lost, m.text)
			delete(l.open, m)
		}
	}
	return lost
}
