package kcp_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// way is one of the ways in which packets get to a gateway, or from there to an endpoint.
type way struct {
	name    string
	network server.Network
	secure  bool
	dial    func(addr string, opts ...client.Option) *client.Client
}

var ways = []way{
	{"ws", server.NetworkWebsocket, false, func(addr string, _ ...client.Option) *client.Client { return client.NewWebsocket("ws://" + addr + "/") }},
	{"wss", server.NetworkWebsocket, true, func(addr string, opts ...client.Option) *client.Client {
		return client.NewWebsocket("wss://"+addr+"/", opts...)
	}},
	{"tcp", server.NetworkTcp, false, client.NewTCP},
	{"tls", server.NetworkTcp, true, client.NewTCP},
	{"udp", server.NetworkUdp, false, client.NewUDP},
	{"unix", server.NetworkUnix, false, client.NewUnixDomainSocket},
	{"kcp", server.NetworkKcp, false, func(addr string, _ ...client.Option) *client.Client { return kcp.NewClient(addr) }},
}

// identity is a certificate for 127.0.0.1 that clients with its option trust.
type identity struct {
	cert tls.Certificate
	pool *x509.CertPool
}

func newIdentity(t *testing.T) *identity {
	borrowed := httptest.NewTLSServer(nil)
	defer borrowed.Close()
	id := &identity{cert: borrowed.TLS.Certificates[0], pool: x509.NewCertPool()}
	id.pool.AddCert(borrowed.Certificate())
	return id
}

func (w way) server(id *identity, opts ...server.Option) *server.Server {
	if w.secure {
		opts = append(opts, server.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{id.cert}}))
	}
	if w.network == server.NetworkKcp {
		opts = append(opts, server.WithTransport(kcp.NewTransport()))
	}
	return server.New(w.network, opts...)
}

func (w way) client(id *identity, addr string) *client.Client {
	if w.secure {
		return w.dial(addr, client.WithTLS(&tls.Config{RootCAs: id.pool}))
	}
	return w.dial(addr)
}

func (w way) address(t *testing.T) string {
	if w.network == server.NetworkUnix {
		return filepath.Join(t.TempDir(), "s")
	}
	return "127.0.0.1:0"
}

// dialects are how an endpoint may be made: its server's echo.
var dialects = []struct {
	name    string
	options []server.Option
	echo    func(srv *server.Server)
	links   []gateway.EndpointOption
}{
	{"backend", nil, func(srv *server.Server) {
		gateway.NewBackend(srv)
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
	}, nil},
	{"plain", []server.Option{server.WithLinks()}, func(srv *server.Server) {
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, link *server.Conn, data []byte) {
			player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
			if err == nil && player != "0.0.0.0:0" {
				data, err = gateway.MarshalGatewayInPacket(player, 0, packet)
			}
			if err == nil {
				link.Write(data)
			}
		})
	}, []gateway.EndpointOption{gateway.WithPlainLinks()}},
}

// Clients of every network talk to endpoints of every network: each reply is its own client's, and in order.
func TestConversions(t *testing.T) {
	id := newIdentity(t)
	for _, front := range ways {
		for _, back := range ways {
			if back.name == "udp" {
				continue // which no link may be
			}
			for _, dialect := range dialects {
				t.Run(front.name+" to "+back.name+"/"+dialect.name, func(t *testing.T) {
					srv := back.server(id, dialect.options...)
					dialect.echo(srv)
					e := gateway.NewEndpoint("game", back.client(id, gwtest.Serve(t, srv, back.address(t))), dialect.links...)
					convert(t, front, id, e)
				})
			}
		}
	}
}

// convert has bots of one network talk to an endpoint through a gateway.
func convert(t *testing.T, front way, id *identity, e *gateway.Endpoint) {
	const bots, packets = 6, 40
	srv := front.server(id)
	g := gateway.NewGateway(srv, gateway.NewStaticScanner(e))
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := g.GetConnEndpoint("game", conn); assert.NoError(t, err) {
			e.Forward(conn, packet)
		}
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) { conn.Write(packet) })
	require.NoError(t, g.Start(t.Context(), front.address(t)))
	defer func() {
		g.Shutdown()
		assert.NoError(t, g.Wait())
	}()
	require.Eventually(t, func() bool { _, err := g.GetEndpoint("game"); return err == nil }, patience, time.Millisecond)
	var playing sync.WaitGroup
	for who := range bots {
		got := make(chan string, 4*packets)
		bot := front.client(id, srv.Addr().String())
		bot.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { got <- string(packet) })
		require.NoError(t, bot.Run())
		playing.Go(func() {
			defer bot.Close()
			if front.name == "udp" {
				converseLossy(t, bot, got, who, packets)
			} else {
				converse(t, bot, got, who, packets)
			}
		})
	}
	playing.Wait()
}

// converse sends packets of all sizes, a few at a time, and checks each reply.
func converse(t *testing.T, bot *client.Client, got <-chan string, who, packets int) {
	const window = 8
	for sent, n := 0, 0; n < packets; n++ {
		for ; sent < packets && sent < n+window; sent++ {
			bot.Write([]byte(line(who, sent)))
		}
		select {
		case reply := <-got:
			if reply != line(who, n) {
				t.Errorf("bot %d got %.40q for packet %d", who, reply, n)
				return
			}
		case <-time.After(patience):
			t.Errorf("bot %d: no reply %d", who, n)
			return
		}
	}
}

// converseLossy asks again where nothing comes back, and may hear of earlier packets again.
func converseLossy(t *testing.T, bot *client.Client, got <-chan string, who, packets int) {
	const again = 100 * time.Millisecond
	asked := 0
	for n := 0; n < packets; {
		bot.Write([]byte(line(who, n)))
		asked++
		select {
		case reply := <-got:
			if !strings.HasPrefix(reply, fmt.Sprintf("bot %d ", who)) {
				t.Errorf("bot %d got %.40q", who, reply)
				return
			}
			if reply == line(who, n) {
				n++
			}
		case <-time.After(again):
			if asked > 10*packets {
				t.Errorf("bot %d: no reply %d after all", who, n)
				return
			}
		}
	}
}

// line is packet n of a bot, of up to 4 KiB.
func line(who, n int) string {
	return fmt.Sprintf("bot %d says %d %s", who, n, strings.Repeat("x", n*n*31%4096))
}
