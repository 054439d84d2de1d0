//go:build !race

package gateway_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

var pathNetworks = []server.Network{server.NetworkTcp, server.NetworkWebsocket}

const batch = 16 // packets

// A view and a part of a slab, a view and a copy, or one copy and as many views for a batch; with a little for timers.
const small, whole, batched = 0.1, 1 + 1.0/16 + 0.02, 2.0/batch + 0.02

// mallocs is gwtest.Mallocs of what mustn't fail.
func mallocs(t testing.TB, n int, f func() error) float64 {
	t.Helper()
	each, err := gwtest.Mallocs(n, f)
	require.NoError(t, err)
	return each
}

// What a packet costs on its way through the gateway: from the client's socket over a handler and Forward to the link's, and from
// there over a handler and Write to the client's. It is the copy that the handler may keep, and a sixteenth of what holds the view.
// Copies of packets that come with one read share their memory, and small ones where many come anyway. There is no such test under the race detector, which allocates,
// and under which sync.Pool drops things at random.
func TestDataPathAllocations(t *testing.T) {
	const packets = 10_000
	for _, tt := range []struct {
		engine   string
		kind     server.Engine
		size     int
		up, down float64
	}{
		{"loops", server.EngineLoops, 32, small, small},
		{"loops", server.EngineLoops, 1 << 10, whole, whole},
		{"goroutines", server.EngineGoroutines, 32, whole, small}, // which hold no memory for a client that is silent
		{"goroutines", server.EngineGoroutines, 1 << 10, whole, whole},
	} {
		if tt.kind == server.EngineLoops && !loop.Supported {
			continue
		}
		for _, network := range pathNetworks {
			t.Run(fmt.Sprintf("%s/%s/%d B", network, tt.engine, tt.size), func(t *testing.T) {
				p := newPath(t, network, tt.kind, tt.size, 1)
				up, down := mallocs(t, packets, p.goUp), mallocs(t, packets, p.goDown)
				q := newPath(t, network, tt.kind, tt.size, batch)
				together := mallocs(t, packets/batch, q.goDown) / batch
				t.Logf("allocations a packet: %.3f up, %.3f down, %.3f down of %d that come with one read", up, down, together, batch)
				assert.LessOrEqual(t, up, tt.up, "up")
				assert.LessOrEqual(t, down, tt.down, "down")
				assert.LessOrEqual(t, together, batched, "down together")
			})
		}
	}
}

// What a packet costs at a backend: on its way from the link over a handler to Write, and from there to the link. It is what it costs at
// the gateway.
func TestBackendAllocations(t *testing.T) {
	const packets = 10_000
	for _, tt := range []struct {
		size  int
		there float64 // and back
	}{
		{32, small}, {1 << 10, whole},
	} {
		for name, engine := range engines() {
			t.Run(fmt.Sprintf("%s/%d B", name, tt.size), func(t *testing.T) {
				one, many := newLinkPath(t, engine, tt.size, 1), newLinkPath(t, engine, tt.size, 50)
				payload := make([]byte, tt.size)
				alone, together := mallocs(t, packets, one.roundTrip), mallocs(t, packets/50, many.roundTrip)/50
				pushed := mallocs(t, packets, func() error { return one.push(payload) })
				t.Logf("allocations a packet: %.3f there and back, %.3f of 50 that come with one read, %.3f for one that is pushed",
					alone, together, pushed)
				assert.LessOrEqual(t, alone, tt.there)
				assert.LessOrEqual(t, together, tt.there)
				assert.LessOrEqual(t, pushed, 0.02)
			})
		}
	}
}

// The same there and back over a backend in the same process, whose server is part of what is counted.
func TestBackendPathAllocations(t *testing.T) {
	most := 3.0 * small
	if !loop.Supported { // the copy of what a client sends, which is silent in between
		most += 1
	}
	for _, network := range pathNetworks {
		t.Run(string(network), func(t *testing.T) {
			p := newBackendPath(t, network, 32)
			each := mallocs(t, 10_000, p.roundTrip)
			t.Logf("%.2f allocations for a packet up, its echo down, and the backend between", each)
			assert.LessOrEqual(t, each, most)
		})
	}
}
