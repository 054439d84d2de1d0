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

const blockLimit = 2 * time.Second

// blockHost is a server that answers, after longer than blockLimit where the packet is "block": blocking is closed then.
func blockHost(t *testing.T, limit server.Option) (h *host, blocking chan struct{}) {
	h, blocking = newHost(ws, onLoops, limit).echo(), make(chan struct{})
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
		if string(packet) == "block" {
			close(blocking)
			time.Sleep(blockLimit + blockLimit/2) // what a slow database does
		}
	})
	return h.start(t), blocking
}

// A handler that has kept its loop for longer than clients may be silent ends none of the loop's: before they are found silent they
// are read, and pinged.
func TestEngineBlockIsNoSilence(t *testing.T) {
	h, blocking := blockHost(t, server.WithWebsocketReadDeadline(blockLimit))
	blocker, conn := h.dial(t)
	silent, _ := h.dialBeside(t, conn)
	lively, _ := h.dialBeside(t, conn)
	answers, silence, blocked := attend(lively), attend(silent), attend(blocker)
	blocker.Write(text, []byte("block"))
	await(t, blocking, "handler")
	lively.Write(text, []byte("meanwhile"))
	assert.Equal(t, "meanwhile", string(await(t, answers, "answer")))
	assert.Equal(t, "block", string(await(t, blocked, "answer")))
	silent.Write(text, []byte("afterwards"))
	assert.Equal(t, "afterwards", string(await(t, silence, "answer")))
	assert.Empty(t, h.closed)
}
