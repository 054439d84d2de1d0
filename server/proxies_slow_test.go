package server_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// fromListener accepts connections in memory that have addresses.
type fromListener struct {
	*pipeListener
	from chan net.Addr
}

type fromConn struct {
	net.Conn
	from net.Addr
}

func (c *fromConn) RemoteAddr() net.Addr { return c.from }

func (l *fromListener) Accept() (net.Conn, error) {
	conn, err := l.pipeListener.Accept()
	if err != nil {
		return nil, err
	}
	return &fromConn{conn, <-l.from}, nil
}

func (l *fromListener) dial(from string) net.Conn {
	l.from <- net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
	return l.pipeListener.dial()
}

// serveFrom runs a server that trusts proxies, over memory, until end is called.
func serveFrom(t *testing.T, network string, opts ...server.Option) (h *host, l *fromListener, end func()) {
	opts = append(opts, server.WithEngine(server.EngineGoroutines), server.WithTrustedProxies(trustedProxies...)) // no sockets in a bubble
	h = newHost(network, opts...)
	l = &fromListener{newPipeListener(), make(chan net.Addr, 64)}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	return h, l, func() {
		h.Shutdown()
		assert.NoError(t, await(t, ended, "end"))
	}
}

// greet makes conn a client, of the address that ip is in.
func (h *host) greet(t *testing.T, conn net.Conn, header, ip string) {
	t.Helper()
	p := conformance.NewPeer(t, conn, h.network)
	t.Cleanup(p.Cut)
	if header != "" {
		p.Send([]byte(header))
	}
	if h.network == ws {
		require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/").StatusCode)
	}
	assert.Equal(t, ip, await(t, h.opened, "opened event").GetIP())
}

// A proxy whose header comes byte by byte is cut at the handshake timeout; others are served meanwhile.
func TestSlowHeaders(t *testing.T) {
	const slow = 20
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h, l, end := serveFrom(t, network)
			began := time.Now()
			ended := make(chan time.Duration, slow)
			for range slow {
				go func() { ended <- trickle(l.dial(theProxy+":1"), "PROXY UNKNOWN and more").Sub(began) }()
			}
			for range 10 {
				time.Sleep(100 * time.Millisecond)
				now := time.Now()
				h.greet(t, l.dial(theProxy+":2"), headerV1, "203.0.113.7")
				h.greet(t, l.dial(stranger+":3"), "", stranger)
				assert.Equal(t, now, time.Now(), "nobody waits for the slow ones")
			}
			for range slow {
				assert.Equal(t, server.HandshakeTimeout, await(t, ended, "end").Truncate(time.Second), "however much comes")
			}
			assert.EqualValues(t, slow, h.Stats().Refusals[server.RefusedProxy])
			end()
		})
	}
}

// trickle writes about a byte a second, and returns when the peer would have no more.
func trickle(conn net.Conn, bytes string) time.Time {
	for i := range bytes {
		if _, err := conn.Write([]byte(bytes[i : i+1])); err != nil {
			break
		}
		time.Sleep(900 * time.Millisecond)
	}
	return time.Now()
}

// A header ends what is waited for: a connection may be silent behind it for longer than a handshake takes.
func TestHeaderTimeoutEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l, end := serveFrom(t, tcp)
		conn := l.dial(theProxy + ":1")
		h.greet(t, conn, headerV1, "203.0.113.7")
		time.Sleep(3 * server.HandshakeTimeout)
		send(t, conn, "\x00\x00\x00\x05hello")
		assert.Equal(t, "hello", h.next(t).data)
		end()
	})
}

// Shutdown waits for no header, and leaves nobody who reads one.
func TestShutdownWhileHeadersAreRead(t *testing.T) {
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h, l, end := serveFrom(t, network)
			conn := l.dial(theProxy + ":1")
			send(t, conn, "PROXY ")
			synctest.Wait()
			began := time.Now()
			end()
			assert.Less(t, time.Since(began), server.HandshakeTimeout)
			_, err := conn.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.Zero(t, h.Stats().Refusals[server.RefusedProxy], "it is not the proxy's fault")
		})
	}
}

func TestRefusalsOfProxiesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logger := newLogs()
		h, ln, end := serveFrom(t, tcp, logger)
		for range 100 {
			send(t, ln.dial(theProxy+":1"), "x")
		}
		line := l.expect(t, slog.LevelWarn, "connection refused")
		assert.Contains(t, line, "reason="+string(server.RefusedProxy))
		assert.Contains(t, line, "conn="+theProxy+":1")
		assert.Contains(t, line, "no PROXY header")
		synctest.Wait()
		assert.EqualValues(t, 100, h.Stats().Refusals[server.RefusedProxy])
		assert.Empty(t, l.lines, "once a second")
		end()
	})
}

// A load balancer's health check says that it speaks for itself, and ends: nobody has come, and nobody was refused.
func TestHealthChecksAreNobody(t *testing.T) {
	for name, engine := range engines() {
		for _, network := range []string{tcp, ws} {
			t.Run(name+"/"+network, func(t *testing.T) {
				h := serve(t, network, engine, server.WithTrustedProxies(netip.MustParsePrefix("127.0.0.0/8"))).echo()
				for _, header := range []string{rawV2(0x20, 0, ""), "PROXY UNKNOWN\r\n"} {
					for _, reset := range []bool{false, true} {
						conn := conformance.DialRaw(t, network, h.addr)
						_, err := io.WriteString(conn, header)
						require.NoError(t, err)
						if reset {
							require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
							require.NoError(t, conn.Close())
							continue
						}
						require.NoError(t, conn.(*net.TCPConn).CloseWrite())
						_, err = conn.Read(make([]byte, 1))
						assert.Error(t, err, "closed from the other side too")
					}
				}
				conn := conformance.DialRaw(t, network, h.addr)
				_, err := io.WriteString(conn, rawV2(0x20, 0, ""))
				require.NoError(t, err)
				p := conformance.NewPeer(t, conn, network)
				if network == ws {
					require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/").StatusCode)
				}
				h.talk(t, p)
				assert.Equal(t, "127.0.0.1", await(t, h.opened, "opened event").GetIP(), "one that says something is a client")
				assert.EqualValues(t, 1, h.Stats().Opened)
				assert.Empty(t, h.Stats().Refusals)
			})
		}
	}
}
