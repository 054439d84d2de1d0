//go:build linux && !noloops

package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// attend answers a peer's pings until its end, and hands over its packets.
func attend(p *conformance.Peer) <-chan []byte {
	got := make(chan []byte, 1<<10)
	go func() {
		defer close(got)
		for {
			kind, data, err := p.Read()
			if err != nil {
				return
			}
			if kind != conformance.Ping {
				got <- data
			} else if _, err = p.Conn.Write(p.Frame(0x80|conformance.Pong, data)); err != nil {
				return
			}
		}
	}()
	return got
}

// dialBeside connects peers until one is on the loop of conn.
func (h *host) dialBeside(t *testing.T, conn *server.Conn) (*conformance.Peer, *server.Conn) {
	t.Helper()
	for {
		if p, beside := h.dial(t); beside.Loop() == conn.Loop() {
			return p, beside
		}
	}
}

// A handler that has kept its loop for longer than a client may be silent, or take nothing, ends none of the loop's: before that is
// decided they are read, written to, and pinged.
func TestEngineHandlerKeepsItsLoop(t *testing.T) {
	const limit, packets = 2 * time.Second, 300
	h := newHost(ws, onLoops, server.WithWebsocketReadDeadline(limit), server.WithWriteTimeout(limit), server.WithConnWriteBufferBytes(64<<20)).echo()
	blocking := make(chan struct{})
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
		if string(packet) == "block" {
			close(blocking)
			time.Sleep(limit + limit/2) // what a slow database does
		}
	})
	h.start(t)
	blocker, conn := h.dial(t)
	silent, _ := h.dialBeside(t, conn)
	lively, _ := h.dialBeside(t, conn)
	late, lateConn := h.dialBeside(t, conn)
	answers, silence, blocked := attend(lively), attend(silent), attend(blocker)
	for range packets {
		lateConn.Write(make([]byte, 32<<10)) // more than the kernel takes
	}
	lively.Write(text, []byte("before"))
	assert.Equal(t, "before", string(await(t, answers, "answer")))
	blocker.Write(text, []byte("block"))
	await(t, blocking, "handler")
	lively.Write(text, []byte("meanwhile"))
	reading := attend(late)
	assert.Equal(t, "meanwhile", string(await(t, answers, "answer")))
	assert.Equal(t, "block", string(await(t, blocked, "answer")))
	for range packets {
		assert.Len(t, await(t, reading, "packet"), 32<<10)
	}
	silent.Write(text, []byte("afterwards"))
	assert.Equal(t, "afterwards", string(await(t, silence, "answer")))
	assert.Empty(t, h.closed)
}
