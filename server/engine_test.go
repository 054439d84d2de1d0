//go:build linux && !noloops

package server_test

import (
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

var onLoops = server.WithEngine(server.EngineLoops)

// modes are the ways in which handlers run.
var modes = map[string]server.Option{"direct": nil, "async": server.WithAsyncHandlers(), "serial": server.WithSerialHandlers()}

// EngineLoops where that isn't possible is an error, and EngineAuto takes goroutines there.
func TestEngineOptions(t *testing.T) {
	cert, key, _ := certificate(t)
	for name, hindrance := range map[string]struct {
		network string
		option  server.Option
	}{
		"TLS":               {tcp, server.WithTLS(cert, key)},
		"compression":       {ws, server.WithWebsocketCompression(1)},
		"write compression": {ws, server.WithWebsocketWriteCompression()},
		"upgrader":          {ws, server.WithWebsocketUpgrade(&websocket.Upgrader{})},
		"initializer": {ws, server.WithWebsocketConnInitializer(func(http.ResponseWriter, *http.Request, *websocket.Conn) error {
			return nil
		})},
		"transport":  {tcp, server.WithTransport(newFakeTransport())},
		"no network": {"none", nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := newHost(hindrance.network, onLoops, hindrance.option).Run("127.0.0.1:0")
			assert.ErrorIs(t, err, server.ErrBadOption)
			assert.ErrorContains(t, err, "EngineLoops")
			if hindrance.option != nil && name != "transport" {
				assert.Zero(t, loopsOf(t, newHost(hindrance.network, hindrance.option)))
			}
		})
	}
	for _, engine := range []server.Engine{-1, 3} {
		assert.ErrorIs(t, newHost(tcp, server.WithEngine(engine)).Run("127.0.0.1:0"), server.ErrBadOption)
	}
	assert.ErrorIs(t, newHost(tcp, server.WithEventLoops(-1)).Run("127.0.0.1:0"), server.ErrBadOption)
	assert.Equal(t, 3, loopsOf(t, newHost(tcp, server.WithEventLoops(3))))
	assert.Equal(t, max(1, runtime.GOMAXPROCS(0)/2), loopsOf(t, newHost(tcp, server.WithEventLoops(0))))
	for _, network := range networks {
		assert.Zero(t, loopsOf(t, newHost(network, server.WithEngine(server.EngineGoroutines))))
		assert.NotZero(t, loopsOf(t, newHost(network)))
		assert.NotZero(t, loopsOf(t, newHost(network, onLoops)))
		assert.Zero(t, loopsOf(t, newHost(network, server.WithLinks())))
		assert.NotZero(t, loopsOf(t, newHost(network, server.WithLinks(), onLoops)))
	}
}

// loopsOf returns how many loops h has while it runs.
func loopsOf(t *testing.T, h *host) int {
	t.Helper()
	h.start0(t)
	loops, release := h.Loops()
	release()
	h.Shutdown()
	require.NoError(t, await(t, h.ended, "end of Run"))
	after, release := h.Loops()
	assert.Empty(t, after)
	release()
	return len(loops)
}

// Connections on loops cost no goroutine, and nothing is left of them afterwards.
func TestEngineGoroutinesAndDescriptors(t *testing.T) {
	const peers = 50
	warm := newHost(ws) // the runtime's own descriptors come with the first ones
	warm.start0(t)
	p, _ := warm.dial(t)
	p.Cut()
	warm.Shutdown()
	require.NoError(t, await(t, warm.ended, "end of Run"))
	for _, network := range networks {
		for name, mode := range modes {
			t.Run(network+" "+name, func(t *testing.T) {
				descriptors := openDescriptors(t)
				h := newHost(network, mode).echo()
				h.start0(t)
				all := make([]*conformance.Peer, peers)
				for i := range all {
					all[i], _ = h.dial(t)
					all[i].Write(text, []byte("hello"))
					all[i].Expect(text, []byte("hello"))
				}
				perPeer := 0
				if name == "async" {
					perPeer = 1 // the handlers' own
				}
				require.Eventually(t, func() bool { return goroutines() < peers*perPeer+peers/2 }, patience, tick, "net/http's have gone")
				assert.GreaterOrEqual(t, openDescriptors(t), descriptors+2*peers)
				h.Shutdown()
				for _, p := range all {
					p.ExpectFarewell(1001)
					p.Cut()
				}
				require.NoError(t, await(t, h.ended, "end of Run"))
				assert.Equal(t, descriptors, openDescriptors(t))
				require.Eventually(t, func() bool { return goroutines() == 0 }, patience, tick)
			})
		}
	}
}

// Handlers that run at Shutdown are waited for, but no longer than the shutdown timeout: when they return then, the loops end.
func TestEngineHandlersAtShutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		for name, mode := range modes {
			t.Run(name, func(t *testing.T) {
				descriptors := openDescriptors(t)
				timeout := server.WithShutdownTimeout(patience)
				if !patient {
					timeout = server.WithShutdownTimeout(time.Millisecond)
				}
				h := newHost(tcp, onLoops, mode, timeout)
				release := make(chan struct{})
				h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { <-release; conn.Write(packet) }, 1)
				h.start0(t)
				p, _ := h.dial(t)
				other, _ := h.dial(t)
				p.Write(binary, []byte("a"))
				h.next(t)
				h.Shutdown()
				if patient {
					close(release)
					assert.NoError(t, endOfRun(t, h, p, other))
				} else {
					assert.ErrorIs(t, await(t, h.ended, "end of Run"), server.ErrShutdownTimeout)
					close(release)
					p.ExpectEnd()
					other.ExpectEnd()
				}
				p.Cut()
				other.Cut()
				for range 2 {
					assert.Equal(t, server.ErrGoingAway, h.end(t))
				}
				require.Eventually(t, func() bool { return goroutines() == 0 && openDescriptors(t) == descriptors }, patience, tick)
				assert.Empty(t, h.closed)
			})
		}
	}
}

// endOfRun lets peers answer the server's good-bye, and returns what Run does.
func endOfRun(t *testing.T, h *host, peers ...*conformance.Peer) error {
	t.Helper()
	for _, p := range peers {
		p.ExpectFarewell(1001)
		p.Cut()
	}
	return await(t, h.ended, "end of Run")
}

// goroutines returns how many are a server's, or run for it.
func goroutines() (n int) {
	buf := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, owner := range []string{"gateway/server.(", "gateway/internal/loop.(", "net/http.("} {
			if strings.Contains(stack, owner) {
				n++
				break
			}
		}
	}
	return n
}

// openDescriptors returns how many there are.
func openDescriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}

// Importing the packages starts no goroutine: those of an init function would be there before any test.
func TestImportStartsNoGoroutine(t *testing.T) {
	if os.Getenv("COUNT_GOROUTINES") == "" {
		out := child(t, "TestImportStartsNoGoroutine", "COUNT_GOROUTINES=1")
		assert.Contains(t, out, "PASS")
		return
	}
	assert.Zero(t, goroutines())
}

// child runs one test of this binary in a process of its own.
func child(t *testing.T, test string, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}
