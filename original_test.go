package gateway_test

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// What the original got wrong, each as a test that fails on that behaviour. Those about time are in scanner_test.go and
// health_test.go.

// Shutdown did nothing.
func TestShutdownClosesClientsAndLinksAndEndsRun(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	bot := newBot(t, "websocket", g.address)
	bot.ask(t, []byte("here"))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, g.ShutdownContext(ctx))
	require.Eventually(t, func() bool { return !bot.IsConnected() && b.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
	assert.Zero(t, e.Links())
	assert.Zero(t, e.GetState())
	assert.Zero(t, g.Server().GetOnlineCount())
	assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrGatewayClosed)
	assert.NoError(t, g.ShutdownContext(ctx), "a second time")
}

// Every state collapsed to about 4e-10 after the first reply.
func TestStateStaysMeaningfulAfterReplies(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	begun := time.Now()
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	slowest := time.Since(begun) // of which dialing, the first measurement, is a part
	bot := newBot(t, "tcp", g.address)
	for range 100 {
		begun = time.Now()
		bot.ask(t, []byte("x"))
		slowest = max(slowest, time.Since(begun)) // so are the others of this
		assert.GreaterOrEqual(t, e.GetState(), 1/(1+1.5*slowest.Seconds()), "delay %v, slowest answer after %v", e.Delay(), slowest)
		assert.LessOrEqual(t, e.GetState(), 1.0)
	}
	assert.Positive(t, e.Delay(), "the delay was measured")
}

// The default selector ignored state.
func TestDefaultSelectorFollowsState(t *testing.T) {
	a, b := newBackend(t, "tcp", nil), newBackend(t, "tcp", nil)
	state := func(s float64) gateway.EndpointOption {
		return gateway.WithEndpointStateEvaluator(func(float64) float64 { return s })
	}
	ea, eb := a.endpoint("game", state(0.9)), b.endpoint("game", state(0.1))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb))
	ready(t, 1, ea, eb)
	chosen := map[*gateway.Endpoint]int{}
	const draws = 10_000
	for range draws {
		e, err := g.GetEndpoint("game")
		require.NoError(t, err)
		chosen[e]++
	}
	assert.InDelta(t, 0.9, float64(chosen[ea])/draws, 0.02)
	assert.InDelta(t, 0.1, float64(chosen[eb])/draws, 0.02)
}

// The pool only ever used its first connection.
func TestPoolUsesEveryLink(t *testing.T) {
	const pool, bots = 4, 16
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(pool))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, pool, e)
	for range bots {
		newBot(t, "tcp", g.address).ask(t, []byte("x"))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Len(t, b.links, pool)
	for link, packets := range b.links {
		assert.Equal(t, bots/pool, packets, link)
	}
}

// Forward with no live connection crashed.
func TestForwardWithoutLiveLink(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game", gateway.WithEndpointReconnectInterval(0))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	newBot(t, "tcp", g.address).ask(t, []byte("x"))
	conn := onlyConn(t, g)
	b.srv.Shutdown()
	ready(t, 0, e)

	outcome := make(chan error, 2)
	e.Forward(conn, []byte("y"), func(err error) { outcome <- err })
	assert.ErrorIs(t, <-outcome, gateway.ErrNoLink)
	e.Forward(conn, []byte("y")) // and without a callback

	stranger := b.endpoint("game")
	stranger.Forward(conn, []byte("y"), func(err error) { outcome <- err })
	assert.ErrorIs(t, <-outcome, gateway.ErrEndpointNotExists)
	assert.Zero(t, stranger.GetState())
}

// Dead endpoints stayed selectable.
func TestDeadEndpointIsNotSelectable(t *testing.T) {
	a, b := newBackend(t, "tcp", nil), newBackend(t, "websocket", nil)
	ea, eb := a.endpoint("game"), gateway.NewEndpoint("game", dial("websocket", b.address), gateway.WithEndpointReconnectInterval(0))
	dead := gateway.NewEndpoint("game", client.NewTCP(closedPort(t)))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb, dead))
	ready(t, 1, ea, eb)
	assert.Zero(t, dead.GetState())
	b.srv.Shutdown()
	ready(t, 0, eb)
	assert.Zero(t, eb.GetState())
	for range 100 {
		e, err := g.GetEndpoint("game")
		require.NoError(t, err)
		assert.True(t, ea == e)
	}
	a.srv.Shutdown()
	ready(t, 0, ea)
	_, err := g.GetEndpoint("game")
	assert.ErrorIs(t, err, gateway.ErrEndpointNotExists)
}

// Bindings ignored the endpoint's name.
func TestBindingsAreByName(t *testing.T) {
	lobby, match := newBackend(t, "tcp", nil), newBackend(t, "tcp", nil)
	el, em := lobby.endpoint("lobby"), match.endpoint("match")
	g := newGateway(t, "tcp", "lobby", gateway.NewStaticScanner(el, em))
	ready(t, 1, el, em)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("to the lobby"))
	conn := onlyConn(t, g)
	e, err := g.GetConnEndpoint("match", conn)
	require.NoError(t, err)
	assert.True(t, em == e)
	em.Forward(conn, []byte("to the match"))
	assert.Equal(t, "to the match", string(bot.next(t)))
	e, err = g.GetConnEndpoint("lobby", conn)
	require.NoError(t, err)
	assert.True(t, el == e, "the binding under the other name stays")
	assert.Equal(t, []int{1, 1}, []int{el.Sessions(), em.Sessions()})
}

// Bindings were stored after the write.
func TestForwardBindsBeforeItReturns(t *testing.T) {
	const n = 8
	var endpoints []*gateway.Endpoint
	for range n {
		endpoints = append(endpoints, newBackend(t, "tcp", func([]byte) []byte { return nil }).endpoint("game"))
	}
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(endpoints...))
	ready(t, 1, endpoints...)
	newBot(t, "tcp", g.address)
	require.Eventually(t, func() bool { return g.Stats().ConnectionsOpened == 1 }, patience, time.Millisecond)
	conn := onlyConn(t, g)
	for i := range 100 {
		want := endpoints[i%n]
		want.Forward(conn, []byte("x"))
		got, err := g.GetConnEndpoint("game", conn)
		require.NoError(t, err)
		require.True(t, want == got)
	}
}

// SwitchEndpoint left dest unable to answer.
func TestSwitchEndpointLetsDestAnswerAndPushAtOnce(t *testing.T) {
	tag := func(name string) func([]byte) []byte {
		return func(p []byte) []byte { return []byte(name + " " + string(p)) }
	}
	a, b := newBackend(t, "tcp", tag("a")), newBackend(t, "websocket", tag("b"))
	ea, eb := a.endpoint("game"), b.endpoint("game")
	first := func(endpoints []*gateway.Endpoint) *gateway.Endpoint {
		for _, e := range endpoints {
			if e == ea {
				return e
			}
		}
		return eb
	}
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(ea, eb), gateway.WithEndpointSelector(first))
	ready(t, 1, ea, eb)
	bot := newBot(t, "websocket", g.address)
	assert.Equal(t, "a 1", string(bot.ask(t, []byte("1"))))
	addr := a.clients()[0]

	g.SwitchEndpoint(ea, eb)
	assert.Equal(t, []int{0, 1}, []int{ea.Sessions(), eb.Sessions()})
	for _, link := range b.online(t, 1) { // before anything was forwarded to it
		b.write(t, link, addr, []byte("welcome"))
	}
	assert.Equal(t, "welcome", string(bot.next(t)))
	assert.Equal(t, "b 2", string(bot.ask(t, []byte("2"))))

	// A handler that still holds the old pointer follows the move, which was just now.
	g.SwitchEndpoint(eb, ea)
	g.SwitchEndpoint(ea, eb)
	ea.Forward(onlyConn(t, g), []byte("3"))
	assert.Equal(t, "b 3", string(bot.next(t)))

	// A dead, an equal, a strange dest and one of another name change nothing; a dead source is fine.
	g.SwitchEndpoint(eb, eb)
	g.SwitchEndpoint(eb, gateway.NewEndpoint("game", client.NewTCP(closedPort(t))))
	g.SwitchEndpoint(eb, nil)
	g.SwitchEndpoint(nil, ea)
	assert.Equal(t, 1, eb.Sessions())
	b.srv.Shutdown()
	ready(t, 0, eb)
	g.SwitchEndpoint(ea, eb)
	assert.Equal(t, "a 4", string(bot.ask(t, []byte("4"))))
	g.SwitchEndpoint(eb, ea)
	assert.Equal(t, 1, ea.Sessions())
}

// Bindings and connections leaked when clients closed.
func TestClosedClientsLeaveNothing(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	for range 3 {
		var bots []*bot
		for range 20 {
			bot := newBot(t, "websocket", g.address)
			bot.ask(t, []byte("x"))
			bots = append(bots, bot)
		}
		assert.Equal(t, 20, e.Sessions())
		for _, bot := range bots {
			bot.Close()
		}
		require.Eventually(t, func() bool { return e.Sessions() == 0 && g.Server().GetOnlineCount() == 0 }, patience, time.Millisecond)
	}
	stats := g.Stats()
	assert.EqualValues(t, 60, stats.ConnectionsOpened)
	assert.EqualValues(t, 60, stats.ConnectionsClosed)
	assert.Zero(t, gateway.LiveSessions(g.Gateway))
	assert.Zero(t, gateway.OpenSessions(e))
}

// IPv6 and Unix clients could not be forwarded.
func TestClientsWithoutIPv4AreForwarded(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	for _, test := range []struct {
		name    string
		network server.Network
		address string
	}{{"ipv6", "tcp6", "[::1]:0"}, {"websocket over ipv6", "websocket", "[::1]:0"}, {"unix", "unix", ""}} {
		t.Run(test.name, func(t *testing.T) {
			e := b.endpoint("game")
			g := newGatewayOn(t, test.network, test.address, "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			first, second := newBot(t, test.network, g.address), newBot(t, test.network, g.address)
			assert.Equal(t, "one", string(first.ask(t, []byte("one"))))
			assert.Equal(t, "two", string(second.ask(t, []byte("two"))))
		})
	}
	clients := b.clients()
	assert.Len(t, clients, 6)
	for _, addr := range clients {
		assert.Regexp(t, `^0\.`, addr, "a number out of 0.0.0.0/8")
		assert.NotEqual(t, "0.0.0.0:0", addr)
	}
}

// TCP and Unix sockets lost packet boundaries and reused one read buffer.
func TestStreamsKeepBoundariesAndBuffers(t *testing.T) {
	for _, network := range []server.Network{"tcp", "unix"} {
		t.Run(string(network), func(t *testing.T) {
			const packets = 1000
			var mu sync.Mutex
			var kept [][]byte
			all := make(chan struct{})
			b := newBackend(t, network, func(p []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if kept = append(kept, p); len(kept) == packets {
					close(all)
				}
				return nil
			})
			e := b.endpoint("game")
			g := newGateway(t, network, "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			bot := newBot(t, network, g.address)
			for i := range packets {
				bot.Write(bytes.Repeat([]byte{byte(i)}, i%300))
			}
			select {
			case <-all:
			case <-timeout(t):
				require.Fail(t, "packets missing")
			}
			mu.Lock()
			defer mu.Unlock()
			for i, packet := range kept {
				require.Equal(t, bytes.Repeat([]byte{byte(i)}, i%300), append([]byte{}, packet...), "packet %d", i)
			}
		})
	}
}

// Binary headers went out in WebSocket text frames.
func TestLinksCarryBinaryFrames(t *testing.T) {
	types := make(chan int, 10)
	b := newBackend(t, "websocket", nil)
	b.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, _ []byte) { types <- conn.GetWST() })
	e := b.endpoint("game")
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+g.address, nil)
	require.NoError(t, err)
	defer ws.Close()
	for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage, websocket.TextMessage} {
		require.NoError(t, ws.WriteMessage(kind, []byte("x")))
		back, packet, err := ws.ReadMessage()
		require.NoError(t, err)
		assert.Equal(t, kind, back, "what comes back has the type that the client used")
		assert.Equal(t, "x", string(packet))
		assert.Equal(t, websocket.BinaryMessage, <-types, "the link's type")
	}
}

// X-Real-IP was believed from anyone.
func TestRealIPHeaderIsNotBelieved(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	header := http.Header{"X-Real-Ip": {"6.6.6.6"}, "X-Forwarded-For": {"7.7.7.7"}, "Forwarded": {"for=8.8.8.8"}}
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+g.address, header)
	require.NoError(t, err)
	defer ws.Close()
	require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("x")))
	_, _, err = ws.ReadMessage()
	require.NoError(t, err)
	conn := onlyConn(t, g)
	assert.Equal(t, "127.0.0.1", conn.GetIP())
	assert.Equal(t, ws.LocalAddr().String(), conn.GetID())
	assert.Equal(t, []string{ws.LocalAddr().String()}, b.clients(), "the endpoint sees the real address")
}

// One slow client stalled everyone on its endpoint.
func TestSlowClientStallsNobody(t *testing.T) {
	for _, network := range networks {
		t.Run(string(network), func(t *testing.T) {
			payload := bytes.Repeat([]byte("z"), 32<<10)
			b := newBackend(t, "tcp", nil)
			e := b.endpoint("game")
			// Who waited for the one who doesn't read would wait until the test gives up.
			srv := server.New(network, server.WithWriteTimeout(time.Hour))
			g := newGatewayWith(t, srv, "", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			frozen, release := newFrozenBot(t, network, g.address)
			frozen.Write([]byte("I stop reading now"))
			require.Eventually(t, func() bool { return len(b.clients()) == 1 }, patience, time.Millisecond)
			addr := b.clients()[0]
			lively := newBot(t, network, g.address)
			lively.ask(t, []byte("hello"))

			for range 200 { // 6 MiB for the one who doesn't read
				b.push(t, addr, payload)
				lively.ask(t, []byte("still there?"))
			}
			require.Eventually(t, func() bool { return g.Server().GetOnlineCount() == 1 }, patience, time.Millisecond,
				"the one who doesn't read is closed")
			assert.EqualValues(t, 1, g.Server().Stats().SlowConsumers)
			release()
		})
	}
}

// newFrozenBot returns a client that stops reading at its first packet.
func newFrozenBot(t *testing.T, network server.Network, address string) (frozen *client.Client, release func()) {
	frozen = dial(network, address)
	free := make(chan struct{})
	frozen.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { <-free })
	require.NoError(t, frozen.Run())
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(func() { release(); frozen.Close() })
	return frozen, release
}

// The forwarding of a gateway that a handler panics in goes on for everybody else.
func TestPanicCostsOneConnection(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	g.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, _ *server.Conn, packet []byte) {
		if string(packet) == "panic up" {
			panic("up")
		}
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, _ *server.Conn, packet []byte) {
		if string(packet) == "panic down" {
			panic("down")
		}
	})
	ready(t, 1, e)
	other := newBot(t, "tcp", g.address)
	for _, word := range []string{"panic up", "panic down"} {
		bot := newBot(t, "tcp", g.address)
		bot.Write([]byte(word))
		require.Eventually(t, func() bool { return bot.closed.Load() == 1 }, patience, time.Millisecond, word)
		assert.Equal(t, "fine", string(other.ask(t, []byte("fine"))))
	}
	assert.Equal(t, 1, e.Links(), "the link lives")
	assert.EqualValues(t, 1, g.Stats().HandlerPanics)
	assert.EqualValues(t, 1, g.Server().Stats().HandlerPanics)
}
