package gatewaytest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

const idleLimit = 5 * time.Minute

// newImpatient is a gateway to be tested: who says nothing for five minutes has to go.
func newImpatient(srv *server.Server, scanner gateway.Scanner) *gateway.Gateway {
	gw := newFront(srv, scanner)
	gw.RegConnectionOpenedEventHandle(func(_ *gateway.Gateway, conn *server.Conn) {
		conn.SetData("idle", time.AfterFunc(idleLimit, func() { conn.CloseWith(4003, "idle") }))
	})
	gw.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, conn *server.Conn, _ []byte) {
		conn.GetData("idle").(*time.Timer).Reset(idleLimit)
	})
	gw.RegConnectionClosedEventHandle(func(_ *gateway.Gateway, conn *server.Conn) { conn.GetData("idle").(*time.Timer).Stop() })
	return gw
}

// Handlers that depend on time run in a bubble: minutes take none, and what is to the second can be tested to the second.
func TestIdlePlayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewNetwork()
		game := gatewaytest.NewEndpoint(t, network, "game", "game-1")
		gw := newImpatient(network.Server(), gateway.NewStaticScanner(game.Endpoint()))
		gatewaytest.Start(t, gw, "gate")
		ann := gatewaytest.NewPlayer(t, network, "gate")
		time.Sleep(idleLimit - time.Second)
		ann.Send([]byte("still here"))
		game.Expect(ann.Addr(), []byte("still here"))
		time.Sleep(idleLimit - time.Second)
		synctest.Wait()
		assert.Empty(t, ann.Lines(), "a second is left")
		time.Sleep(time.Second)
		ann.Wait("closed: close 4003: idle")
		game.Wait("closed " + ann.Addr())
	})
}

// A slow endpoint, to the millisecond, and what the gateway makes of it.
func TestSlowEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := gatewaytest.NewNetwork()
		game := gatewaytest.NewEndpoint(t, network, "game", "game-1")
		game.Answer(gatewaytest.Echo)
		gw := newFront(network.Server(), gateway.NewStaticScanner(game.Endpoint()))
		gatewaytest.Start(t, gw, "gate")
		ann := gatewaytest.NewPlayer(t, network, "gate")
		for _, delay := range []time.Duration{0, 300 * time.Millisecond, 0} {
			game.Delay(delay)
			begun := time.Now()
			ann.Send([]byte("x"))
			ann.Expect([]byte("x"))
			assert.Equal(t, delay, time.Since(begun))
		}
		game.Delay(time.Hour)
		ann.Send([]byte("y")) // whose answer nobody waits for, the end of the test neither
		game.Wait("received " + ann.Addr() + ` "y"`)
	})
}
