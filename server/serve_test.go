package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// begin starts a server, which is shut down and waited for at the test's end.
func (h *host) begin(t testing.TB, ctx context.Context, addr ...string) {
	t.Helper()
	require.NoError(t, h.Start(ctx, addr...))
	t.Cleanup(func() {
		h.Shutdown()
		assert.NoError(t, h.Wait())
	})
	if len(addr) > 0 {
		h.addr = h.Addr().String()
	}
}

// talk checks that a peer is served.
func (h *host) talk(t testing.TB, p *conformance.Peer) {
	t.Helper()
	p.Write(binary, []byte("hello"))
	p.Expect(binary, []byte("hello"))
}

func TestStart(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := newHost(network).echo()
			require.NoError(t, h.Wait(), "nothing to wait for")
			h.begin(t, t.Context(), address(t, network))
			assert.ErrorIs(t, h.Start(t.Context(), address(t, network)), server.ErrServerRunning)
			assert.ErrorIs(t, h.Run(address(t, network)), server.ErrServerRunning)
			p, _ := h.dial(t)
			h.talk(t, p)
			h.Shutdown()
			p.ExpectFarewell(1001)
			p.Farewell()
			assert.NoError(t, h.Wait())
			assert.NoError(t, h.Wait(), "and again")
			assert.Nil(t, h.Addr())
			assert.ErrorIs(t, h.Start(t.Context(), address(t, network)), server.ErrServerClosed)
		})
	}
}

func TestStartFails(t *testing.T) {
	h := newHost(tcp)
	assert.ErrorIs(t, h.Start(t.Context(), "nowhere"), server.ErrBadAddress)
	assert.ErrorIs(t, h.Wait(), server.ErrBadAddress, "the outcome of what was begun last")
	assert.ErrorIs(t, h.Start(t.Context(), "127.0.0.1:0", "127.0.0.1:0"), server.ErrBadAddress)
	h.begin(t, t.Context(), "127.0.0.1:0")
}

// The end of its context ends a run, after which there may be another one.
func TestRunContext(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := newHost(network).echo()
			for range 2 {
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				ready := make(chan struct{}, 1)
				h.RegMessageReadyEvent(func(*server.Server) {
					select {
					case ready <- struct{}{}:
					default:
					}
				})
				addr := address(t, network)
				go func() { ended <- h.RunContext(ctx, addr) }()
				await(t, ready, "start")
				h.addr = h.Addr().String()
				p, _ := h.dial(t)
				h.talk(t, p)
				cancel()
				p.ExpectFarewell(1001)
				p.Farewell()
				assert.NoError(t, await(t, ended, "end of RunContext"))
				assert.Equal(t, server.ErrGoingAway, h.end(t))
			}
		})
	}
}

func listener(t testing.TB, network string) net.Listener {
	t.Helper()
	kind := "tcp"
	if network == unix {
		kind = "unix"
	}
	ln, err := net.Listen(kind, address(t, network))
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Serve runs a server on a listener that was there before.
func TestServe(t *testing.T) {
	for name, engine := range engines() {
		for _, network := range networks {
			t.Run(name+"/"+network, func(t *testing.T) {
				h, ln := newHost(network, engine).echo(), listener(t, network)
				h.addr = ln.Addr().String()
				ended := make(chan error, 1)
				go func() { ended <- h.Serve(ln) }()
				p, conn := h.dial(t)
				h.talk(t, p)
				assert.Equal(t, ln.Addr().String(), h.Addr().String())
				if name == "loops" {
					assert.NotNil(t, conn.Loop(), "an ordinary socket is on an event loop")
				}
				h.Shutdown()
				p.Farewell()
				assert.NoError(t, await(t, ended, "end of Serve"))
				_, err := ln.Accept()
				assert.ErrorIs(t, err, net.ErrClosed)
			})
		}
	}
}

// A server that is running takes further listeners: its connections are all in one place, and Shutdown ends all of it.
func TestServeBeside(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := newHost(network).echo()
			h.begin(t, t.Context())
			assert.Nil(t, h.Addr(), "it listens nowhere yet")
			first, second := listener(t, network), listener(t, network)
			ended := [2]chan error{make(chan error, 1), make(chan error, 1)}
			var peers []*conformance.Peer
			for i, ln := range []net.Listener{first, second} {
				go func() { ended[i] <- h.Serve(ln) }()
				h.addr = ln.Addr().String()
				p, conn := h.dial(t)
				h.talk(t, p)
				assert.NotNil(t, h.GetOnline(conn.GetID()))
				peers = append(peers, p)
			}
			assert.Equal(t, 2, h.GetOnlineCount())

			first.Close()
			assert.NoError(t, await(t, ended[0], "end of Serve, by its listener's"))
			h.talk(t, peers[0])
			h.Shutdown()
			for _, p := range peers {
				p.Farewell()
			}
			assert.NoError(t, await(t, ended[1], "end of Serve"))
			assert.NoError(t, h.Wait())
		})
	}
}

// Several at once: one of them runs the server, and the others wait until it does.
func TestServeAtOnce(t *testing.T) {
	for range 50 {
		h, ended := newHost(tcp), make(chan error, 3)
		var peers []net.Conn
		for range cap(ended) {
			ln := listener(t, tcp)
			go func() { ended <- h.Serve(ln) }()
			peers = append(peers, conformance.DialRaw(t, tcp, ln.Addr().String()))
		}
		for range peers {
			await(t, h.opened, "opened event")
		}
		h.Shutdown()
		for _, peer := range peers {
			peer.Close()
		}
		for range cap(ended) {
			assert.NoError(t, await(t, ended, "end of Serve"))
		}
	}
}

// Who waits for a run that fails then, runs the server.
func TestServeAfterFailedStart(t *testing.T) {
	h, begun, fail := newHost(tcp), make(chan struct{}, 1), make(chan struct{})
	h.RegStartBeforeEvent(func(*server.Server) {
		select {
		case begun <- struct{}{}:
			<-fail
		default:
		}
	})
	failed := make(chan error, 1)
	go func() { failed <- h.Start(t.Context(), "nowhere") }()
	await(t, begun, "StartBefore")
	ended, ln := make(chan error, 1), listener(t, tcp)
	go func() { ended <- h.Serve(ln) }()
	close(fail)
	assert.ErrorIs(t, await(t, failed, "failure"), server.ErrBadAddress)
	conformance.DialRaw(t, tcp, ln.Addr().String())
	await(t, h.opened, "opened event")
	h.Shutdown()
	assert.NoError(t, await(t, ended, "end of Serve"))
}

// Shutdown ends the wait for a start that doesn't come to anything.
func TestServeInHandlerOfStart(t *testing.T) {
	h, outcome := newHost(tcp), make(chan error, 1)
	h.RegStartBeforeEvent(func(srv *server.Server) {
		srv.Shutdown()
		outcome <- srv.Serve(listener(t, tcp))
	})
	require.NoError(t, h.Start(t.Context(), "127.0.0.1:0"))
	assert.ErrorIs(t, await(t, outcome, "outcome of Serve"), server.ErrServerClosed)
	assert.NoError(t, h.Wait())
}

// oddConn is a connection that can't be compared with others, as it is: == panics.
type oddConn struct {
	net.Conn
	_ [0]func()
}

type oddListener struct{ net.Listener }

func (l oddListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return oddConn{Conn: conn}, err
}

func TestServeConnectionsOfAnyType(t *testing.T) {
	for _, network := range networks {
		for name, proxies := range map[string]server.Option{"clients": nil, "proxies": server.WithTrustedProxies(netip.MustParsePrefix("127.0.0.0/8"))} {
			if network == unix && proxies != nil {
				continue
			}
			t.Run(network+" "+name, func(t *testing.T) {
				h, ln := newHost(network, proxies).echo(), listener(t, network)
				ended := make(chan error, 1)
				go func() { ended <- h.Serve(oddListener{ln}) }()
				conn := conformance.DialRaw(t, network, ln.Addr().String())
				if proxies != nil {
					_, err := io.WriteString(conn, "PROXY TCP4 1.2.3.4 127.0.0.1 5 6\r\n")
					require.NoError(t, err)
				}
				p := conformance.NewPeer(t, conn, network)
				if network == ws {
					require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/").StatusCode)
				}
				h.talk(t, p)
				p.Cut()
				h.Shutdown()
				assert.NoError(t, await(t, ended, "end of Serve"))
			})
		}
	}
}

func TestServeRefusesWhatItCannot(t *testing.T) {
	ln := listener(t, tcp)
	h := newHost("none")
	h.begin(t, t.Context())
	assert.ErrorIs(t, h.Serve(ln), server.ErrNetworkUnsupported)
	_, err := ln.Accept()
	assert.ErrorIs(t, err, net.ErrClosed, "it is the server's, whatever becomes of it")
	assert.ErrorIs(t, newHost("none").Serve(listener(t, tcp)), server.ErrNetworkUnsupported, "nor is it running")

	h = newHost(tcp)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	assert.ErrorIs(t, h.ServePacket(pc), server.ErrNetworkUnsupported)
	_, _, err = pc.ReadFrom(make([]byte, 1))
	assert.ErrorIs(t, err, net.ErrClosed)
	h.Shutdown()
	assert.ErrorIs(t, h.Serve(listener(t, tcp)), server.ErrServerClosed)
}

func TestListenConfig(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			var asked atomic.Int32
			h := newHost(network, server.WithListenConfig(net.ListenConfig{
				Control: func(string, string, syscall.RawConn) error { asked.Add(1); return nil },
			})).echo()
			h.begin(t, t.Context(), address(t, network))
			assert.EqualValues(t, 1, asked.Load())
			p, _ := h.dial(t)
			h.talk(t, p)
		})
	}
}
