package server_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

const heldPackets = 10

// holdHost is a server whose handlers may wait, as they may on goroutines, and find more packets behind the one they get: the first
// is handled when the returned peer has sent all of them.
func holdHost(t *testing.T, network string, handle func(conn *server.Conn, packet []byte)) *conformance.Peer {
	t.Helper()
	h, begin := newHost(network, server.WithEngine(server.EngineGoroutines)), make(chan struct{})
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		<-begin
		handle(conn, packet)
	}, 1)
	h.start(t)
	p, _ := h.dial(t)
	p.Send(p.Packet(text, []byte("held")))
	h.next(t)
	p.Send(bytes.Repeat(p.Packet(text, []byte("held")), heldPackets-1))
	close(begin)
	return p
}

// A handler may wait for the callback of what it has written.
func TestHandlerWaitsForItsCallback(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			p := holdHost(t, network, func(conn *server.Conn, packet []byte) { assert.NoError(t, <-write(conn, packet)) })
			for range heldPackets {
				p.Expect(text, []byte("held"))
			}
		})
	}
}

// What a handler has written gets there though it goes on, and so does what others write meanwhile.
func TestHandlerGoesOnAfterWriting(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			conns, release := make(chan *server.Conn, heldPackets), make(chan struct{}, heldPackets)
			p := holdHost(t, network, func(conn *server.Conn, packet []byte) {
				conn.Write(packet)
				conns <- conn
				<-release
			})
			t.Cleanup(func() { close(release) })
			for range heldPackets {
				conn := await(t, conns, "packet")
				p.Expect(text, []byte("held"))
				conn.Write([]byte("by somebody else"))
				p.Expect(text, []byte("by somebody else"))
				release <- struct{}{}
			}
		})
	}
}

// What only gathers, for whoever has several packets at once, is no sign of a slow client either.
func TestGatheredBurst(t *testing.T) {
	const bound, packets = 50, 500
	for _, network := range []string{ws, tcp} {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network, server.WithEngine(server.EngineGoroutines), server.WithConnWriteBufferSize(bound))
			p, conn := h.dial(t)
			conn.Gather()
			for range packets {
				conn.Write([]byte("gathered"))
			}
			conn.Flush()
			for range packets {
				p.Expect(text, []byte("gathered"))
			}
			assert.Zero(t, h.Stats().SlowConsumers)
		})
	}
}
