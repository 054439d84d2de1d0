package server_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

func TestNetworks(t *testing.T) {
	all := server.GetNetworks()
	assert.Equal(t, []server.Network{
		"none", "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "websocket", "kcp",
	}, all)
	all[0] = "changed"
	assert.Equal(t, server.NetworkNone, server.GetNetworks()[0], "the slice is the caller's own")
	for _, network := range server.GetNetworks() {
		assert.Equal(t, network != server.NetworkNone, network.IsSocket())
		srv := server.New(network)
		assert.Equal(t, network, srv.GetNetwork())
		assert.Equal(t, network.IsSocket(), srv.IsSocket())
	}
	assert.False(t, server.Network("carrier pigeon").IsSocket())
	assert.PanicsWithError(t, `server: unknown network "carrier pigeon": one of [none tcp tcp4 tcp6 udp udp4 udp6 unix websocket kcp]`,
		func() { server.New("carrier pigeon") })
}

func TestRunUnsupported(t *testing.T) {
	err := server.New(server.NetworkKcp).Run("127.0.0.1:0")
	assert.ErrorIs(t, err, server.ErrNetworkUnsupported)
	assert.ErrorContains(t, err, "kcp")
	var unsupported *server.NetworkError
	require.ErrorAs(t, err, &unsupported)
	assert.Equal(t, server.NetworkKcp, unsupported.Network)
}

func TestRunFamilies(t *testing.T) {
	h := newHost("tcp4")
	h.network = tcp
	h.start(t)
	assert.True(t, strings.HasPrefix(h.addr, "127.0.0.1:"), h.addr)
	h.dial(t)
	assert.ErrorIs(t, server.New(server.NetworkTcp4).Run("[::1]:0"), server.ErrBadAddress)
	assert.ErrorIs(t, server.New(server.NetworkTcp6).Run("127.0.0.1:0"), server.ErrBadAddress)
}

func TestRunBadAddress(t *testing.T) {
	long := "/" + strings.Repeat("x", 200)
	for network, addrs := range map[server.Network][]string{
		server.NetworkTcp:       {"", "8888", "localhost", "127.0.0.1:99999", "127.0.0.1:-1", "::1:80", "127.0.0.1:0/ws"},
		server.NetworkTcp4:      {"", "nothing", "127.0.0.1:port with spaces"},
		server.NetworkTcp6:      {"", "nothing"},
		server.NetworkWebsocket: {"", "8888", "/ws", "127.0.0.1/ws", "127.0.0.1:99999/ws", "127.0.0.1:0/ws?a=b", "127.0.0.1:0/ws#x"},
		server.NetworkUnix:      {"", "with\x00zero", long},
	} {
		for _, addr := range addrs {
			t.Run(string(network)+" "+addr[:min(len(addr), 30)], func(t *testing.T) {
				srv := server.New(network, server.WithLogger(quiet))
				err := srv.Run(addr)
				require.ErrorIs(t, err, server.ErrBadAddress)
				assert.ErrorContains(t, err, strings.ReplaceAll(addr, "\x00", `\x00`), "the error names the value")
				assert.Nil(t, srv.Addr())
			})
		}
	}
}

func TestRunPortInUse(t *testing.T) {
	for _, network := range []string{ws, tcp} {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		h := newHost(network)
		err = h.Run(taken.Addr().String())
		assert.ErrorIs(t, err, syscall.EADDRINUSE)
		assert.ErrorContains(t, err, taken.Addr().String())
		taken.Close()
		h.start(t) // the same server, on another port
		h.dial(t)
	}
}

func TestRunTwice(t *testing.T) {
	for _, network := range append(networks, "none") {
		h := newHost(network)
		h.start0(t)
		assert.ErrorIs(t, h.Run(address(t, network)), server.ErrServerRunning)
		h.Shutdown()
		h.Shutdown()
		assert.NoError(t, await(t, h.ended, "end of Run"))
		err := h.Run(address(t, network))
		assert.ErrorIs(t, err, server.ErrServerClosed)
		assert.ErrorIs(t, err, net.ErrClosed)
	}
}

func TestShutdownBeforeRun(t *testing.T) {
	h := newHost(tcp)
	h.Shutdown()
	assert.ErrorIs(t, h.Run("127.0.0.1:0"), server.ErrServerClosed)
}

// Shutdown from a handler: it returns at once, and the handler goes on.
func TestShutdownFromHandler(t *testing.T) {
	cases := map[string]func(h *host){
		"start before": func(h *host) { h.RegStartBeforeEvent(func(s *server.Server) { s.Shutdown() }) },
		"opened":       func(h *host) { h.RegConnectionOpenedEvent(func(s *server.Server, _ *server.Conn) { s.Shutdown() }) },
		"receive": func(h *host) {
			h.RegConnectionReceivePacketEvent(func(s *server.Server, conn *server.Conn, _ []byte) { s.Shutdown(); s.Shutdown(); conn.Write(nil) })
		},
		"closed": func(h *host) {
			h.RegConnectionClosedEvent(func(s *server.Server, _ *server.Conn, _ any) { s.Shutdown() })
		},
	}
	for name, register := range cases {
		for mode, opts := range map[string][]server.Option{"direct": nil, "async": {server.WithAsyncHandlers()}, "serial": {server.WithSerialHandlers()}} {
			t.Run(name+" "+mode, func(t *testing.T) {
				h := newHost(tcp, opts...)
				register(h)
				if name == "start before" {
					assert.NoError(t, h.Run("127.0.0.1:0"))
					return
				}
				h.start0(t)
				p := conformance.Dial(t, tcp, h.addr, "")
				p.Send(p.Packet(binary, []byte("a")))
				p.Farewell()
				p.ExpectEnd()
				assert.NoError(t, await(t, h.ended, "end of Run"))
				assert.Len(t, h.closed, 1)
				assert.Zero(t, h.GetOnlineCount())
			})
		}
	}
}

// What was written before Shutdown arrives, then the good-bye, and closed events say why.
func TestShutdownFlushes(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			const n = 500
			h := newHost(network)
			h.start0(t)
			p, conn := h.dial(t)
			idle, _ := h.dial(t)
			results := make(chan error, n)
			for range n {
				conn.Write(make([]byte, 100), func(err error) { results <- err })
			}
			h.Shutdown()
			assert.Len(t, p.ExpectFarewell(1001), n)
			idle.ExpectFarewell(1001)
			p.Farewell()
			idle.Farewell()
			p.ExpectEnd()
			assert.NoError(t, await(t, h.ended, "end of Run"))
			for range n {
				assert.NoError(t, <-results)
			}
			for range 2 {
				assert.Equal(t, server.ErrGoingAway, h.end(t))
			}
			assert.ErrorIs(t, await(t, write(conn, []byte("too late")), "callback"), net.ErrClosed)
			assert.ErrorIs(t, dialError(network, h.addr), syscall.ECONNREFUSED, "it listens no more")
		})
	}
}

// dialError is what connecting to an address that nobody listens on gives.
func dialError(network, addr string) error {
	kind := "tcp"
	if network == unix {
		kind = "unix"
	}
	conn, err := net.Dial(kind, addr)
	if err == nil {
		conn.Close()
	} else if errors.Is(err, os.ErrNotExist) {
		return syscall.ECONNREFUSED
	}
	return err
}

// A handler that doesn't return keeps Run for the shutdown timeout, and no longer.
func TestShutdownTimeout(t *testing.T) {
	for _, mode := range []server.Option{nil, server.WithAsyncHandlers(), server.WithSerialHandlers()} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(tcp, mode, server.WithShutdownTimeout(3*time.Second))
			release := make(chan struct{})
			h.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) { <-release }, 1)
			h.pipes = newPipeListener()
			server.Over(h.Server, h.pipes)
			h.start0(t)
			p, _ := h.dial(t)
			p.Write(binary, []byte("a"))
			h.next(t)
			begun := time.Now()
			h.Shutdown()
			assert.ErrorIs(t, <-h.ended, server.ErrShutdownTimeout)
			assert.Equal(t, 3*time.Second+server.LingerTimeout, time.Since(begun))
			close(release)
			<-h.closed
		})
	}
}

func TestNetworkNone(t *testing.T) {
	h := newHost("none")
	h.start0(t)
	assert.Nil(t, h.Addr())
	assert.False(t, h.IsSocket())
	select {
	case err := <-h.ended:
		require.Fail(t, "Run returned", err)
	default:
	}
	h.Shutdown()
	assert.NoError(t, await(t, h.ended, "end of Run"))
}

func TestLimitLife(t *testing.T) {
	for _, network := range []string{"none", tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(network, server.WithLimitLife(time.Hour))
			if network != "none" {
				h.pipes = newPipeListener()
				server.Over(h.Server, h.pipes)
			}
			begun := time.Now()
			assert.NoError(t, h.Run(""))
			assert.Equal(t, time.Hour, time.Since(begun))
			assert.ErrorIs(t, h.Run(""), server.ErrServerClosed)
		})
	}
}

func TestRunUnixPath(t *testing.T) {
	for name, engine := range map[string]server.Engine{"auto": server.EngineAuto, "goroutines": server.EngineGoroutines} {
		t.Run(name, func(t *testing.T) { runUnixPath(t, server.WithEngine(engine)) })
	}
}

func runUnixPath(t *testing.T, engine server.Option) {
	t.Run("regular file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
		assert.ErrorIs(t, newHost(unix, engine).Run(path), server.ErrNotDeadSocket)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "precious", string(data))
	})
	t.Run("directory", func(t *testing.T) {
		path := t.TempDir()
		assert.ErrorIs(t, newHost(unix, engine).Run(path), server.ErrNotDeadSocket)
		assert.DirExists(t, path)
	})
	t.Run("link", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
		assert.ErrorIs(t, newHost(unix, engine).Run(filepath.Join(dir, "link")), server.ErrNotDeadSocket)
	})
	t.Run("live socket", func(t *testing.T) {
		h := serve(t, unix, engine)
		err := newHost(unix, engine).Run(h.addr)
		assert.ErrorIs(t, err, server.ErrNotDeadSocket)
		assert.ErrorContains(t, err, h.addr)
		await(t, h.closed, "end of the connection that asked")
		<-h.opened
		h.dial(t)
	})
	t.Run("dead socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
		require.NoError(t, err)
		ln.SetUnlinkOnClose(false)
		ln.Close()
		h := newHost(unix, engine)
		h.addr = gwtestServe(t, h, path)
		h.dial(t)
	})
	t.Run("missing directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing", "s")
		err := newHost(unix, engine).Run(path)
		assert.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, path)
	})
	t.Run("is gone afterwards", func(t *testing.T) {
		h := newHost(unix, engine)
		h.start0(t)
		assert.FileExists(t, h.addr)
		h.Shutdown()
		assert.NoError(t, await(t, h.ended, "end of Run"))
		assert.NoFileExists(t, h.addr)
	})
}
