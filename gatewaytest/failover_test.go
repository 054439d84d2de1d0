package gatewaytest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// newFront is a gateway to be tested: a player stays with the endpoint called game that it was given first.
func newFront(srv *server.Server, scanner gateway.Scanner, options ...gateway.Option) *gateway.Gateway {
	gw := gateway.NewGateway(srv, scanner, options...)
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		endpoint, err := gw.GetConnEndpoint("game", conn)
		if err != nil {
			conn.Write([]byte("try again"))
			return
		}
		endpoint.Forward(conn, packet)
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	return gw
}

// byAddress is a selector that always chooses the first.
func byAddress(all []*gateway.Endpoint) *gateway.Endpoint { return all[0] }

// An endpoint dies: the player's next packet goes elsewhere. It comes back, and gets players again.
func TestFailover(t *testing.T) {
	for _, dialect := range []struct {
		name   string
		create func(t testing.TB, network *gatewaytest.Network, name, addr string) *gatewaytest.Endpoint
		heard  []string // by the endpoint that dies
	}{
		{"session protocol", func(t testing.TB, network *gatewaytest.Network, name, addr string) *gatewaytest.Endpoint {
			return gatewaytest.NewEndpoint(t, network, name, addr)
		}, []string{"opened 198.18.0.1:1024", `received 198.18.0.1:1024 "one"`}},
		{"plain", gatewaytest.NewPlainEndpoint, []string{`received 198.18.0.1:1024 "one"`}},
	} {
		t.Run(dialect.name, func(t *testing.T) {
			network := gatewaytest.NewNetwork()
			one, two := dialect.create(t, network, "game", "game-1"), dialect.create(t, network, "game", "game-2")
			gw := newFront(network.Server(), gateway.NewStaticScanner(one.Endpoint(), two.Endpoint()), gateway.WithEndpointSelector(byAddress))
			events := gatewaytest.NewRecorder(t, gw)
			gatewaytest.Start(t, gw, "gate")
			events.Wait("link up game-1")
			events.Wait("link up game-2")
			ann := gatewaytest.NewPlayer(t, network, "gate")
			ann.Send([]byte("one"))
			one.Expect(ann.Addr(), []byte("one"))

			one.Down()
			events.Wait("link down game-1")
			ann.Send([]byte("two"))
			two.Expect(ann.Addr(), []byte("two"))
			assert.Equal(t, dialect.heard, one.Lines())

			two.Down()
			events.Wait("link down game-2")
			ann.Send([]byte("three"))
			ann.Expect([]byte("try again"))

			one.Down() // it is
			one.Up()
			one.Up()
			one.Answer(gatewaytest.Echo)
			events.Wait("link up game-1")
			ann.Send([]byte("four"))
			ann.Expect([]byte("four"))
		})
	}
}

// An endpoint that is drained gives its players away, with their state.
func TestDrainedEndpoint(t *testing.T) {
	network := gatewaytest.NewNetwork()
	level := gateway.WithMoveState(func(*server.Conn) []byte { return []byte("level 7") })
	one := gatewaytest.NewEndpoint(t, network, "game", "game-1", level)
	two := gatewaytest.NewEndpoint(t, network, "game", "game-2")
	gw := newFront(network.Server(), gateway.NewStaticScanner(one.Endpoint(), two.Endpoint()), gateway.WithEndpointSelector(byAddress))
	gatewaytest.Start(t, gw, "gate")
	ann := gatewaytest.NewPlayer(t, network, "gate")
	ann.Send([]byte("hello"))
	one.Expect(ann.Addr(), []byte("hello"))

	one.Drain()
	two.Wait("opened " + ann.Addr() + ` "level 7"`)
	two.Push(ann.Addr(), []byte("here you are"))
	ann.Expect([]byte("here you are"))
	two.Kick(ann.Addr(), 4002, "closing time")
	ann.Wait("closed: close 4002: closing time")
	assert.Equal(t, []string{"opened " + ann.Addr(), "received " + ann.Addr() + ` "hello"`, "closed " + ann.Addr()}, one.Lines())
}

// An endpoint hands a player over to another one, and speaks to many at once.
func TestHandedOver(t *testing.T) {
	network := gatewaytest.NewNetwork()
	lobby := gatewaytest.NewEndpoint(t, network, "game", "lobby")
	match := gatewaytest.NewEndpoint(t, network, "match", "match")
	gw := newFront(network.Server(), gateway.NewStaticScanner(lobby.Endpoint(), match.Endpoint()))
	gatewaytest.Start(t, gw, "gate")
	ann := gatewaytest.NewPlayer(t, network, "gate")
	ann.Send([]byte("hello"))
	lobby.Expect(ann.Addr(), []byte("hello"))
	assert.NoError(t, lobby.Conn(ann.Addr()).Handoff("match", []byte("level 7")))
	match.Wait("opened " + ann.Addr() + ` "level 7"`)
	assert.NoError(t, match.Backend().CastAll([]byte("go")))
	ann.Expect([]byte("go"))
}

// A plain endpoint may be asked what it speaks: what is addressed to nobody is not its affair.
func TestPlainEndpointIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewNetwork()
		game := gatewaytest.NewPlainEndpoint(t, network, "game", "game-1")
		gw := newFront(network.Server(), gateway.NewStaticScanner(gateway.NewEndpoint("game", network.Client("game-1"))))
		gatewaytest.Start(t, gw, "gate")
		ann := gatewaytest.NewPlayer(t, network, "gate")
		ann.Send([]byte("hello"))
		game.Expect(ann.Addr(), []byte("hello"))
		assert.Equal(t, []string{"received " + ann.Addr() + ` "hello"`}, game.Lines())
		assert.Nil(t, game.Backend())
	})
}
