package gateway_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// Endpoints hear of the clients that were let in, with what admission found out about them, and of no others.
func TestAdmissionBeforeEndpoints(t *testing.T) {
	for name, engine := range engines() {
		for _, network := range backNetworks {
			t.Run(string(network)+" "+name, func(t *testing.T) {
				release := make(chan struct{})
				admit := func(conn *server.Conn, ticket []byte) error {
					switch player, ok := strings.CutPrefix(string(ticket), "ticket of "); {
					case ok:
						<-release
						conn.SetData("player", player)
						return nil
					default:
						return errors.New("no ticket")
					}
				}
				h := newHost(t, network, func(conn *server.Conn, packet []byte) []byte {
					return []byte(conn.GetData("player").(string) + ": " + string(packet))
				})
				e := h.endpoint()
				g := newGatewayWith(t, server.New(network, engine, server.WithAdmission(admit, time.Hour)), "", "game", gateway.NewStaticScanner(e),
					gateway.WithOpenAttributes(func(conn *server.Conn) map[string]string {
						return map[string]string{"player": conn.GetData("player").(string)}
					}))
				ready(t, 1, e)
				refused, alice := newBot(t, network, g.address), newBot(t, network, g.address)
				refused.Write([]byte("let me in"))
				refused.Write([]byte("to the game"))
				alice.Write([]byte("ticket of alice"))
				alice.Write([]byte("hello"))
				require.Eventually(t, func() bool { return refused.closed.Load() == 1 }, patience, time.Millisecond)
				assert.Empty(t, h.heard())
				assert.Zero(t, g.Server().GetOnlineCount())
				assert.Zero(t, gateway.LiveSessions(g.Gateway))
				assert.Zero(t, e.Sessions())
				close(release)
				assert.Equal(t, "alice: hello", string(alice.next(t)))
				assert.Equal(t, "alice: again", string(alice.ask(t, []byte("again"))))
				assert.Equal(t, [][]string{{"opened", "hello", "again"}}, h.heard())
				assert.Equal(t, 1, gateway.LiveSessions(g.Gateway))
				assert.Equal(t, map[server.Refusal]uint64{server.RefusedAdmission: 1}, g.Server().Stats().Refusals)
			})
		}
	}
}

// On a server that gateways link to, admission and the rates concern direct clients: links are a gateway's, which has let its clients
// in, and limits them.
func TestAdmissionAndRatesOfDirectClients(t *testing.T) {
	const packets = 100
	for name, engine := range engines() {
		for _, network := range backNetworks {
			t.Run(string(network)+" "+name, func(t *testing.T) {
				srv := server.New(network, engine, server.WithPacketRate(1e-6, 5), server.WithByteRate(1e-6, server.DefaultMaxPacketSize),
					server.WithAdmission(func(_ *server.Conn, ticket []byte) error {
						if !bytes.Equal(ticket, []byte("ticket")) {
							return errors.New("no ticket")
						}
						return nil
					}, time.Hour))
				h := newHostOf(t, srv, nil)
				e := h.endpoint(gateway.WithEndpointConnectionPoolSize(2))
				g := newGateway(t, network, "game", gateway.NewStaticScanner(e))
				ready(t, 2, e)
				behind := newBot(t, network, g.address)
				for range packets {
					assert.Equal(t, "behind", string(behind.ask(t, []byte("behind"))))
				}
				direct, refused := newBot(t, network, h.address), newBot(t, network, h.address)
				refused.Write([]byte("let me in"))
				require.Eventually(t, func() bool { return refused.closed.Load() == 1 }, patience, time.Millisecond)
				direct.Write([]byte("ticket"))
				assert.Equal(t, "direct", string(direct.ask(t, []byte("direct"))))
				assert.Equal(t, 2, h.srv.GetOnlineCount())
				for range packets {
					direct.Write([]byte("much"))
				}
				require.Eventually(t, func() bool { return direct.closed.Load() == 1 && h.srv.Stats().RateLimited == 1 }, patience, time.Millisecond)
				assert.Equal(t, "behind", string(behind.ask(t, []byte("behind"))))
				assert.EqualValues(t, 1, h.srv.Stats().ConnectionsRefused)
			})
		}
	}
}

// A gateway's links count for its address only as long as they have not shown that they are links: a pool may be larger than what one
// player's address may have.
func TestLinksAndLimitsPerAddress(t *testing.T) {
	const links = 6
	for name, engine := range engines() {
		for _, network := range []server.Network{server.NetworkWebsocket, server.NetworkTcp} {
			t.Run(string(network)+" "+name, func(t *testing.T) {
				srv := server.New(network, engine, server.WithMaxConnectionsPerAddress(2), server.WithMaxConnectionsPerPrefix(3))
				h := newHostOf(t, srv, nil)
				e := h.endpoint(gateway.WithEndpointConnectionPoolSize(links), gateway.WithEndpointReconnectInterval(10*time.Millisecond))
				newGateway(t, network, "game", gateway.NewStaticScanner(e))
				ready(t, links, e)
				first, second := newBot(t, network, h.address), newBot(t, network, h.address)
				assert.Equal(t, "a", string(first.ask(t, []byte("a"))))
				assert.Equal(t, "b", string(second.ask(t, []byte("b"))))
				before := h.srv.Stats().Refusals[server.RefusedAddress]
				third := dial(network, h.address)
				_ = third.Run() // a stream is accepted, and ended
				defer third.Close()
				require.Eventually(t, func() bool { return h.srv.Stats().Refusals[server.RefusedAddress] == before+1 }, patience, time.Millisecond)
			})
		}
	}
}
