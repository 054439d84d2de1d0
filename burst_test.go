package gateway_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// What an endpoint sends one client at once, over a link beside it on its event loop, makes it no slow consumer, though it is more than its queue's bound: the kernel has room
// for all of it.
func TestEndpointBurst(t *testing.T) {
	const packets = 3 * server.DefaultConnWriteBufferSize
	engine, ok := engines()["loops"]
	if !ok {
		t.Skip("no event loops here")
	}
	for _, network := range []server.Network{"tcp", "unix"} { // links that are on their clients' loop
		t.Run(string(network), func(t *testing.T) {
			b := newBackend(t, network, func([]byte) []byte { return nil })
			e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(1))
			f := newGatewayWith(t, server.New("tcp", engine), "", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			player := newBot(t, "tcp", f.address)
			player.Write([]byte("hello"))
			require.Eventually(t, func() bool { return len(b.clients()) == 1 }, patience, time.Millisecond)
			for _, link := range b.online(t, 1) {
				link.Gather()
				for n := range packets {
					b.push(t, b.clients()[0], numbered(0, n))
				}
				link.Flush()
			}
			for n := range packets {
				assert.Equal(t, numbered(0, n), player.next(t))
			}
			assert.Zero(t, f.Server().Stats().SlowConsumers)
		})
	}
}

// What a backend's handler writes to one client at once makes it no slow consumer, though it is more than the session's share of the
// link's queue: the kernel has room for all of it.
func TestBackendBurst(t *testing.T) {
	const packets, size = 100, 4 << 10
	for _, network := range []server.Network{"tcp", "unix", "websocket"} {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, func(conn *server.Conn, _ []byte) []byte {
				for n := range packets {
					conn.Write(append(numbered(0, n), make([]byte, size)...))
				}
				return nil
			})
			e := h.endpoint(gateway.WithEndpointConnectionPoolSize(1))
			f := newGatewayWith(t, server.New("tcp"), "", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			player := newBot(t, "tcp", f.address)
			player.Write([]byte("hello"))
			for n := range packets {
				assert.Equal(t, append(numbered(0, n), make([]byte, size)...), player.next(t))
			}
			assert.Zero(t, h.srv.Stats().WritesFailed)
		})
	}
}
