package gatewaytest_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// doomed is a test that may fail.
type doomed struct {
	testing.TB
	said string
}

func (d *doomed) Fatalf(format string, args ...any) {
	d.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fate is what a test says when it fails, "" if it doesn't.
func fate(t *testing.T, play func(t testing.TB)) string {
	d, ended := &doomed{TB: t}, make(chan struct{})
	go func() {
		defer close(ended)
		play(d)
	}()
	<-ended
	return d.said
}

// What doesn't happen fails the test within Patience, and says who has waited for what.
func TestFailures(t *testing.T) {
	none := gateway.NewStaticScanner()
	for _, tt := range []struct {
		name   string
		play   func(t testing.TB, network *gatewaytest.Network)
		said   string
		passed time.Duration
	}{
		{"another packet", func(t testing.TB, network *gatewaytest.Network) {
			conn, ann := gatewaytest.NewConn(t, network)
			conn.Write([]byte("one"))
			ann.Expect([]byte("one"))
			conn.Write([]byte("two"))
			ann.Expect([]byte("three"))
		}, "gatewaytest: player 198.18.0.1:1024 at the conn of 198.18.0.1:1024 expects received \"three\", and there is\n" +
			"\treceived \"two\"\nthis has happened (+ is what was waited for already):\n\t+ received \"one\"\n\t  received \"two\"", 0},
		{"no packet", func(t testing.TB, network *gatewaytest.Network) {
			_, ann := gatewaytest.NewConn(t, network)
			ann.Next()
		}, "gatewaytest: player 198.18.0.1:1024 at the conn of 198.18.0.1:1024 has waited 30s for a packet\n" +
			"nothing has happened", gatewaytest.Patience},
		{"the end instead of a packet", func(t testing.TB, network *gatewaytest.Network) {
			conn, ann := gatewaytest.NewConn(t, network)
			conn.CloseWith(4000, "bye")
			ann.Next()
		}, "gatewaytest: player 198.18.0.1:1024 at the conn of 198.18.0.1:1024 expects a packet, and there is\n" +
			"\tclosed: close 4000: bye\nthis has happened (+ is what was waited for already):\n\t  closed: close 4000: bye", 0},
		{"the same event again", func(t testing.TB, network *gatewaytest.Network) {
			conn, ann := gatewaytest.NewConn(t, network)
			for n := range 25 {
				conn.Write(fmt.Append(nil, n))
			}
			ann.Wait(`received "24"`)
			ann.Wait(`received "24"`)
		}, "gatewaytest: player 198.18.0.1:1024 at the conn of 198.18.0.1:1024 has waited 30s for received \"24\"\n" +
			"this has happened (+ is what was waited for already):\n\t... 5 more\n" + listed(5, 24) + "\n\t+ received \"24\"", gatewaytest.Patience},
		{"nobody listens", func(t testing.TB, network *gatewaytest.Network) {
			gatewaytest.NewPlayer(t, network, "gate")
		}, "gatewaytest: player 198.18.0.1:1024 at gate: dial mem gate: connection refused", 0},
		{"an address in use", func(t testing.TB, network *gatewaytest.Network) {
			gatewaytest.Serve(t, network.Server(), "gate")
			gatewaytest.Start(t, gateway.NewGateway(network.Server(), none), "gate")
		}, "gatewaytest: gateway at gate: listen mem gate: address already in use", 0},
		{"a dead endpoint", func(t testing.TB, network *gatewaytest.Network) {
			one := gatewaytest.NewEndpoint(t, network, "game", "game-1")
			two := gateway.NewEndpoint("game", network.Client("game-2"))
			gatewaytest.Start(t, gateway.NewGateway(network.Server(), gateway.NewStaticScanner(one.Endpoint(), two)), "gate")
		}, "gatewaytest: gateway at gate has waited 30s for a link to each endpoint: game at game-1 has 1, game at game-2 has 0",
			gatewaytest.Patience},
		{"a scanner that finds nothing out", func(t testing.TB, network *gatewaytest.Network) {
			fails := gateway.NewFuncScanner(time.Minute, func() ([]*gateway.Endpoint, error) { return nil, net.ErrClosed })
			gatewaytest.Start(t, gateway.NewGateway(network.Server(), fails), "gate")
		}, "gatewaytest: gateway at gate has waited 30s for a link to each endpoint: no scan has succeeded", gatewaytest.Patience},
		{"a player from two places", func(t testing.TB, network *gatewaytest.Network) {
			gatewaytest.NewPlayer(t, network, "gate", "10.0.0.1:1", "10.0.0.2:1")
		}, `gatewaytest: player at gate: 2 addresses to come from, ["10.0.0.1:1" "10.0.0.2:1"]`, 0},
		{"a player that isn't there", func(t testing.TB, network *gatewaytest.Network) {
			gatewaytest.NewEndpoint(t, network, "game", "game-1").Push("10.0.0.1:1", nil)
		}, "gatewaytest: endpoint game at game-1 has no player 10.0.0.1:1\nnothing has happened", 0},
		{"kicked by a plain endpoint", func(t testing.TB, network *gatewaytest.Network) {
			gatewaytest.NewPlainEndpoint(t, network, "game", "game-1").Kick("10.0.0.1:1", 4000, "")
		}, "gatewaytest: endpoint game at game-1 has no player 10.0.0.1:1\nnothing has happened", 0},
		{"draining what is down", func(t testing.TB, network *gatewaytest.Network) {
			e := gatewaytest.NewEndpoint(t, network, "game", "game-1")
			e.Down()
			e.Drain()
		}, "gatewaytest: endpoint game at game-1 can't drain: it is down, or plain", 0},
		{"nowhere to go", func(t testing.TB, network *gatewaytest.Network) {
			e := gatewaytest.NewEndpoint(t, network, "game", "game-1")
			gatewaytest.Start(t, newFront(network.Server(), gateway.NewStaticScanner(e.Endpoint())), "gate")
			ann := gatewaytest.NewPlayer(t, network, "gate")
			ann.Send(nil)
			e.Expect(ann.Addr(), nil)
			e.Drain()
		}, "gatewaytest: endpoint game at game-1: gateway: drain: 1 sessions left: context deadline exceeded\n" +
			"this has happened (+ is what was waited for already):\n\t  opened 198.18.0.1:1024\n\t+ received 198.18.0.1:1024 \"\"",
			gatewaytest.Patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				assert.Equal(t, tt.said, fate(t, func(t testing.TB) { tt.play(t, gatewaytest.NewNetwork()) }))
				assert.InDelta(t, tt.passed, time.Since(begun), float64(10*time.Millisecond))
			})
		})
	}
}

// listed is how a failure tells of numbered packets that nobody has waited for.
func listed(from, to int) (lines string) {
	for n := from; n < to; n++ {
		if n > from {
			lines += "\n"
		}
		lines += fmt.Sprintf("\t  received \"%d\"", n)
	}
	return lines
}

// What is waited for may have happened before, and what was passed over meanwhile is still there.
func TestWaitInAnyOrder(t *testing.T) {
	conn, ann := gatewaytest.NewConn(t, gatewaytest.NewNetwork())
	for _, word := range []string{"one", "two", "three", "two"} {
		conn.Write([]byte(word))
	}
	assert.Equal(t, gatewaytest.Event{Kind: gatewaytest.Received, Packet: []byte("three")}, ann.Wait(`received "three"`))
	ann.Wait(`received "two"`)
	assert.Equal(t, "one", string(ann.Next()))
	ann.Expect([]byte("two"))
	assert.Equal(t, []string{`received "one"`, `received "two"`, `received "three"`, `received "two"`}, ann.Lines())
}

// What a player can't send is told too.
func TestSendAfterTheEnd(t *testing.T) {
	conn, ann := gatewaytest.NewConn(t, gatewaytest.NewNetwork())
	conn.Close()
	ann.Wait("closed")
	ann.Send([]byte("anybody?"))
	ann.Wait(`failed "anybody?": client: not connected: use of closed network connection`)
}

// Forwards that fail are recorded, with why.
func TestForwardFails(t *testing.T) {
	network := gatewaytest.NewNetwork()
	game := gatewaytest.NewEndpoint(t, network, "game", "game-1")
	endpoint := game.Endpoint()
	gw := gateway.NewGateway(network.Server(), gateway.NewStaticScanner(endpoint))
	gw.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, conn *server.Conn, packet []byte) { endpoint.Forward(conn, packet) })
	events := gatewaytest.NewRecorder(t, gw)
	gatewaytest.Start(t, gw, "gate")
	game.Down()
	events.Wait("link down game-1")
	ann := gatewaytest.NewPlayer(t, network, "gate")
	ann.Send([]byte("hello"))
	events.Wait("failed " + ann.Addr() + ` game-1 "hello": gateway: endpoint has no live link`)
}
