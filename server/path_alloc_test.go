//go:build !race

package server_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

// A packet that a handler sends back costs the copy that the handler may keep, which small ones on an event loop share, and a
// sixteenth of what holds the view. There is no such test under the race detector, which allocates, and under which sync.Pool drops
// things at random.
func TestEchoAllocations(t *testing.T) {
	const small, whole = 0.1, 1 + 1.0/16 + 0.02
	for _, tt := range []struct {
		engine string
		kind   server.Engine
		size   int
		most   float64
	}{
		{"loops", server.EngineLoops, 32, small},
		{"loops", server.EngineLoops, 1 << 10, whole},
		{"goroutines", server.EngineGoroutines, 32, whole},
		{"goroutines", server.EngineGoroutines, 1 << 10, whole},
	} {
		if tt.kind == server.EngineLoops && !loop.Supported {
			continue
		}
		for _, network := range []server.Network{server.NetworkTcp, server.NetworkWebsocket} {
			t.Run(fmt.Sprintf("%s/%s/%d B", network, tt.engine, tt.size), func(t *testing.T) {
				srv := server.New(network, server.WithEngine(tt.kind), server.WithLogger(quiet))
				srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
				c := gwtest.DialRaw(t, network, gwtest.Serve(t, srv, "127.0.0.1:0"))
				payload := make([]byte, tt.size)
				sent, got := c.Sent(payload), make([]byte, len(c.Received(payload)))
				each, err := gwtest.Mallocs(10_000, func() error {
					if _, err := c.Write(sent); err != nil {
						return err
					}
					_, err := io.ReadFull(c, got)
					return err
				})
				require.NoError(t, err)
				t.Logf("%.3f allocations a packet", each)
				assert.LessOrEqual(t, each, tt.most)
			})
		}
	}
}
