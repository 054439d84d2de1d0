package server_test

import (
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// everywhere runs f for each network and engine.
func everywhere(t *testing.T, f func(t *testing.T, network string, engine server.Option)) {
	for name, engine := range engines() {
		for _, network := range networks {
			t.Run(network+" "+name, func(t *testing.T) { f(t, network, engine) })
		}
	}
}

// knock connects to h from a local address, "" for any, and reports whether it was let in. If not it has checked the answer.
func knock(t testing.TB, h *host, from string, want server.Refusal) *conformance.Peer {
	t.Helper()
	dialer := net.Dialer{Timeout: patience}
	kind := "unix"
	if h.network != unix {
		kind = "tcp"
		if from != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		}
	}
	conn, err := dialer.Dial(kind, h.addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	p := conformance.NewPeer(t, conn, h.network)
	switch {
	case h.network == ws && want != "":
		resp := p.Upgrade("/")
		assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		assert.Equal(t, "5", resp.Header.Get("Retry-After"))
		p.ExpectEnd()
	case h.network == ws:
		require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/").StatusCode)
	case want != "":
		p.ExpectFarewell(1013)
	}
	if want == "" {
		await(t, h.opened, "opened event")
	}
	return p
}

// countedOut waits until nobody counts in h's limits any more.
func countedOut(t testing.TB, h *host) {
	t.Helper()
	require.Eventually(t, func() bool {
		present, addresses, prefixes := server.Counted(h.Server)
		return present == 0 && addresses == 0 && prefixes == 0
	}, patience, tick, "the limits forget who has left")
}

func TestMaxConnections(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithMaxConnections(2))
		first, second := knock(t, h, "", ""), knock(t, h, "", "")
		for range 3 {
			knock(t, h, "", server.RefusedTotal)
		}
		assert.EqualValues(t, 3, h.Stats().Refusals[server.RefusedTotal])
		assert.EqualValues(t, 3, h.Stats().ConnectionsRefused)
		assert.Equal(t, 2, h.GetOnlineCount())
		first.Cut()
		h.end(t)
		require.Eventually(t, func() bool { n, _, _ := server.Counted(h.Server); return n == 1 }, patience, tick)
		knock(t, h, "", "").Cut()
		second.Cut()
		countedOut(t, h)
	})
}

// Addresses and prefixes are limited each by itself, and what has none isn't.
func TestMaxConnectionsPerAddressAndPrefix(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("127.0.0.0/8 is this machine on Linux only")
	}
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithMaxConnectionsPerAddress(2), server.WithMaxConnectionsPerPrefix(3))
		var in []*conformance.Peer
		for _, step := range []struct {
			from string
			want server.Refusal
		}{
			{"127.0.1.1", ""}, {"127.0.1.1", ""}, {"127.0.1.1", server.RefusedAddress},
			{"127.0.1.2", ""}, {"127.0.1.2", server.RefusedPrefix}, {"127.0.1.3", server.RefusedPrefix},
			{"127.0.2.1", ""}, {"127.0.2.2", ""},
		} {
			if network == unix {
				step.want = ""
			}
			if p := knock(t, h, step.from, step.want); step.want == "" {
				in = append(in, p)
			}
		}
		if network != unix {
			require.Eventually(t, func() bool {
				present, addresses, prefixes := server.Counted(h.Server)
				return present == 5 && addresses == 4 && prefixes == 2
			}, patience, tick)
			assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedAddress])
			assert.EqualValues(t, 2, h.Stats().Refusals[server.RefusedPrefix])
		}
		for _, p := range in {
			p.Cut()
		}
		countedOut(t, h)
		knock(t, h, "127.0.1.1", "").Cut()
	})
}

// IPv4 in IPv6 is IPv4, a zone is nothing, and an IPv6 household has a /64.
func TestWhoCountsAsOneAddress(t *testing.T) {
	for name, c := range map[string]struct {
		limit      server.Option
		a, b       string
		sameAsUs   bool
		wantReason server.Refusal
	}{
		"port":                {server.WithMaxConnectionsPerAddress(1), "1.2.3.4:1", "1.2.3.4:2", true, server.RefusedAddress},
		"other address":       {server.WithMaxConnectionsPerAddress(1), "1.2.3.4:1", "1.2.3.5:1", false, ""},
		"IPv4 in IPv6":        {server.WithMaxConnectionsPerAddress(1), "1.2.3.4:1", "[::ffff:1.2.3.4]:1", true, server.RefusedAddress},
		"zone":                {server.WithMaxConnectionsPerAddress(1), "[fe80::1%a]:1", "[fe80::1%b]:1", true, server.RefusedAddress},
		"other IPv6":          {server.WithMaxConnectionsPerAddress(1), "[2001:db8::1]:1", "[2001:db8::2]:1", false, ""},
		"/24":                 {server.WithMaxConnectionsPerPrefix(1), "1.2.3.4:1", "1.2.3.255:1", true, server.RefusedPrefix},
		"other /24":           {server.WithMaxConnectionsPerPrefix(1), "1.2.3.4:1", "1.2.4.4:1", false, ""},
		"/24 of IPv4 in IPv6": {server.WithMaxConnectionsPerPrefix(1), "1.2.3.4:1", "[::ffff:1.2.3.5]:1", true, server.RefusedPrefix},
		"other IPv4 in IPv6":  {server.WithMaxConnectionsPerPrefix(1), "[::ffff:1.2.3.4]:1", "[::ffff:1.3.3.4]:1", false, ""},
		"/64":                 {server.WithMaxConnectionsPerPrefix(1), "[2001:db8::1]:1", "[2001:db8::ffff:0:0:1]:1", true, server.RefusedPrefix},
		"other /64":           {server.WithMaxConnectionsPerPrefix(1), "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false, ""},
		"no address":          {server.WithMaxConnectionsPerAddress(1), "@", "@", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, accept := serveCustom(t, c.limit)
			a, b := newFakeConn(textAddr(c.a)), newFakeConn(textAddr(c.b))
			accept(a)
			await(t, h.opened, "opened event")
			accept(b)
			if c.sameAsUs {
				assert.Equal(t, 1013, await(t, b.codes, "good-bye"))
				assert.EqualValues(t, 1, h.Stats().Refusals[c.wantReason])
			} else {
				await(t, h.opened, "opened event")
			}
			a.Close()
			b.Close()
			countedOut(t, h)
		})
	}
}

// textAddr is an address of somebody's own transport.
type textAddr string

func (a textAddr) Network() string { return "mars" }
func (a textAddr) String() string  { return string(a) }

func TestConnectionRate(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithConnectionRate(1e-6, 2))
		knock(t, h, "", "").Cut()
		knock(t, h, "", "").Cut()
		knock(t, h, "", server.RefusedRate)
		assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedRate])
		countedOut(t, h)
	})
}

// Without limits everybody comes in, as with those that are 0 or less.
func TestNoLimits(t *testing.T) {
	h := serve(t, tcp, server.WithMaxConnections(-1), server.WithMaxConnectionsPerAddress(0), server.WithMaxConnectionsPerPrefix(-1),
		server.WithConnectionRate(0, 0), server.WithPacketRate(-1, 0), server.WithByteRate(0, 0))
	for range 20 {
		p := knock(t, h, "", "")
		p.Write(none, make([]byte, 1000))
		h.next(t)
	}
}

func TestLimitOptions(t *testing.T) {
	for name, option := range map[string]server.Option{
		"not a number": server.WithConnectionRate(math.NaN(), 1),
		"infinite":     server.WithPacketRate(math.Inf(1), 1),
		"no burst":     server.WithPacketRate(1, 0),
		"no packet fits": func(s *server.Server) {
			server.WithByteRate(1, 1000)(s)
			server.WithMaxPacketSize(1001)(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorIs(t, newHost(tcp, option).Run("127.0.0.1:0"), server.ErrBadOption)
		})
	}
}

// What is still in a handshake counts, and does no more when that has failed.
func TestHandshakesCount(t *testing.T) {
	cert, key, _ := certificate(t)
	for _, network := range []string{ws, tcp} {
		for name, secure := range map[string]server.Option{"plain": nil, "TLS": server.WithTLS(cert, key)} {
			if network == tcp && secure == nil {
				continue // which has none
			}
			t.Run(network+" "+name, func(t *testing.T) {
				for limit, option := range map[server.Refusal]server.Option{
					server.RefusedTotal: server.WithMaxConnections(1), server.RefusedAddress: server.WithMaxConnectionsPerAddress(1),
					server.RefusedPrefix: server.WithMaxConnectionsPerPrefix(1),
				} {
					h := serve(t, network, secure, option)
					slow := conformance.DialRaw(t, network, h.addr)
					require.Eventually(t, func() bool { n, _, _ := server.Counted(h.Server); return n == 1 }, patience, tick)
					other := conformance.DialRaw(t, network, h.addr)
					require.Eventually(t, func() bool { return h.Stats().Refusals[limit] == 1 }, patience, tick, limit)
					slow.Close()
					countedOut(t, h)
					other.Close()
				}
			})
		}
	}
}

// One too many of an address is turned away without a handshake, which would cost more than a connection that is let in.
func TestTurnedAwayBeforeHandshake(t *testing.T) {
	cert, key, pool := certificate(t)
	config := &tls.Config{RootCAs: pool, ServerName: "game.test"}
	h := serve(t, tcp, server.WithTLS(cert, key), server.WithMaxConnectionsPerAddress(1))
	first := conformance.DialTLS(t, tcp, h.addr, "/", config)
	first.Write(none, []byte("hello"))
	h.next(t)
	conformance.NewPeer(t, conformance.DialRaw(t, tcp, h.addr), tcp).ExpectEnd()
	assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedAddress])
	first.Cut()
	countedOut(t, h)
}

// Requests that come to nothing leave nothing behind, nor do those that are mounted elsewhere.
func TestRequestsCount(t *testing.T) {
	h := newHost(ws, server.WithMaxConnections(2), server.WithMaxConnectionsPerAddress(1))
	require.NoError(t, h.Start(t.Context()))
	t.Cleanup(func() { h.Shutdown(); assert.NoError(t, h.Wait()) })
	web := httptest.NewServer(h.Server)
	t.Cleanup(web.Close)
	h.addr = web.Listener.Addr().String()
	resp, err := http.Get(web.URL)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
	countedOut(t, h)
	p := knock(t, h, "", "")
	knock(t, h, "", server.RefusedAddress)
	p.Cut()
	countedOut(t, h)
}

// It is the connection's own address that counts, which is known for sure after the upgrade: middleware may say what it likes.
func TestMiddlewareChangesAddress(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			h := newHost(ws, engine, server.WithMaxConnectionsPerAddress(1))
			require.NoError(t, h.Start(t.Context()))
			t.Cleanup(func() { h.Shutdown(); assert.NoError(t, h.Wait()) })
			last := 0
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				last++
				r.RemoteAddr = "10.0.0." + strconv.Itoa(last) + ":1"
				h.ServeHTTP(w, r)
			}))
			t.Cleanup(web.Close)
			h.addr = web.Listener.Addr().String()
			first := knock(t, h, "", "")
			second := conformance.Dial(t, ws, h.addr, "/")
			second.ExpectFarewell(1013)
			second.Cut()
			first.Cut()
			countedOut(t, h)
		})
	}
}

// Nobody is forgotten, and nobody counts twice, when thousands come and go at once, at their limits.
func TestStormOfConnections(t *testing.T) {
	const workers, each = 20, 100
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithMaxConnections(15), server.WithMaxConnectionsPerAddress(12), server.WithMaxConnectionsPerPrefix(14)).echo()
		var storm sync.WaitGroup
		for range workers {
			storm.Go(func() {
				for i := range each {
					conn := conformance.DialRaw(t, network, h.addr)
					hello := "\x00\x00\x00\x01x"
					if network == ws {
						hello = "GET / HTTP/1.1\r\nHost: game.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
					}
					if i%3 > 0 { // which is answered, one way or the other
						_, _ = io.WriteString(conn, hello)
					}
					if i%3 > 1 {
						_, _ = conn.Read(make([]byte, 1))
					}
					conn.Close()
				}
			})
		}
		over := make(chan struct{})
		var listener sync.WaitGroup
		listener.Go(func() { // more than the channels hold
			for {
				select {
				case <-h.opened:
				case <-h.closed:
				case <-h.packets:
				case <-over:
					return
				}
			}
		})
		defer listener.Wait()
		defer close(over)
		storm.Wait()
		countedOut(t, h)
		require.Eventually(t, func() bool { s := h.Stats(); return s.Opened == s.Closed }, patience, tick)
		conformance.Dial(t, network, h.addr, "/").Cut()
		countedOut(t, h)
	})
}
