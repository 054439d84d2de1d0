package gateway_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// ledger is what backends have heard of each player, in order, wherever it was.
type ledger struct {
	mu   sync.Mutex
	next map[int]int
	bad  []string
}

func (l *ledger) heard(who, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next[who] != n {
		l.bad = append(l.bad, fmt.Sprintf("bot %d: %d came, %d was next", who, n, l.next[who]))
	}
	l.next[who] = n + 1
}

// check fails the test if something was doubled, lost or reordered on the way up, or a player was not heard so many times.
func (l *ledger) check(t *testing.T, players, packets int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	assert.Empty(t, l.bad)
	for who := range players {
		assert.Equal(t, packets, l.next[who])
	}
}

// newCounter runs a backend that answers each packet with a number of its own that counts up for each player, wherever it is:
// the count moves with the session.
func newCounter(t *testing.T, network server.Network, l *ledger, options ...gateway.BackendOption) *host {
	h := newHost(t, network, func(conn *server.Conn, packet []byte) []byte {
		who, n := readNumber(t, packet)
		l.heard(who, n)
		count, _ := conn.GetData("count").(int)
		conn.SetData("count", count+1)
		return numbered(who, count)
	}, append(options, gateway.WithMoveState(func(conn *server.Conn) []byte {
		count, _ := conn.GetData("count").(int)
		return binary.BigEndian.AppendUint64(nil, uint64(count))
	}))...)
	h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
		if state := h.MoveState(conn); state != nil {
			conn.SetData("count", int(binary.BigEndian.Uint64(state)))
		}
	})
	return h
}

// Players are switched back and forth while they play, and handlers hold old endpoints: nothing is lost, doubled or reordered,
// either way.
func TestMigrationUnderLoad(t *testing.T) {
	for _, pair := range [][2]server.Network{{"tcp", "websocket"}, {"tcp", "tcp"}} {
		t.Run(fmt.Sprint(pair), func(t *testing.T) { playMigration(t, pair) })
	}
}

func playMigration(t *testing.T, pair [2]server.Network) {
	const bots, packets, switches, window = 200, 150, 20, 8
	heard := &ledger{next: map[int]int{}}
	a, b := newCounter(t, pair[0], heard), newCounter(t, pair[1], heard)
	ea, eb := a.endpoint(gateway.WithEndpointConnectionPoolSize(2)), b.endpoint(gateway.WithEndpointConnectionPoolSize(2))
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(ea, eb)), network: "tcp"}
	var failed atomic.Int32
	g.RegForwardFailedEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, _ *server.Conn, _ []byte, err error) {
		failed.Add(1)
		t.Log(err)
	})
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		e, _ := conn.GetData("endpoint").(*gateway.Endpoint) // as it was some packets ago
		if _, n := readNumber(t, packet); e == nil || n%5 == 0 {
			e, _ = g.GetConnEndpoint("game", conn)
			conn.SetData("endpoint", e)
		}
		e.Forward(conn, packet)
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.run(t, "")
	ready(t, 2, ea, eb)
	var playing sync.WaitGroup
	var got atomic.Int64
	for who := range bots {
		bot := newBot(t, "tcp", g.address)
		bot.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { got.Add(1) })
		playing.Go(func() { converse(t, bot, who, packets, window) })
	}
	for i := range switches {
		due := int64(bots * packets * (i + 1) / (switches + 2))
		require.Eventually(t, func() bool { return got.Load() >= due }, patience, time.Millisecond)
		if i%2 == 0 {
			g.SwitchEndpoint(ea, eb)
			g.SwitchEndpoint(eb, ea)
		}
		g.SwitchEndpoint(ea, eb)
		ea, eb = eb, ea
	}
	playing.Wait()
	heard.check(t, bots, packets)
	stats := g.Stats()
	assert.Zero(t, failed.Load())
	assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown, "of what came down")
	assert.Zero(t, stats.MovesTimedOut)
	assert.Equal(t, bots, ea.Sessions()+eb.Sessions())
	for _, h := range []*host{a, b} {
		assert.Zero(t, h.Stats().StrayData)
		checkEvents(t, h)
	}
}

// checkEvents sees that each conn was opened, got its packets, and was closed, as often as it came.
func checkEvents(t *testing.T, h *host) {
	for _, events := range h.heard() {
		open := false
		for _, event := range events {
			switch {
			case event == "opened":
				require.False(t, open, "opened twice")
				open = true
			case len(event) > 6 && event[:6] == "closed":
				require.True(t, open, "closed, and not open")
				open = false
			default:
				require.True(t, open, "a packet outside")
			}
		}
	}
}

// A move waits for the old backend, holds what is sent meanwhile, and gives up after two seconds.
func TestMoveHoldsPackets(t *testing.T) {
	for _, test := range []struct {
		name    string
		blocked time.Duration
		timeout uint64
	}{{"in time", time.Second, 0}, {"too slow", 4 * time.Second, 1}} {
		t.Run(test.name, func(t *testing.T) {
			var endpoints []*gateway.Endpoint
			inWorld(t, time.Hour, func(w *world) found {
				if endpoints == nil {
					endpoints = []*gateway.Endpoint{
						gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("game", w.net.Client("b")),
					}
				}
				return found{endpoints: endpoints}
			}, func(w *world) {
				a, stopA := runMemHost(t, w.net, "a")
				b, stopB := runMemHost(t, w.net, "b")
				a.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
					if string(packet) == "block" {
						time.Sleep(test.blocked)
					}
				}, 1)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				ea, eb := endpoints[0], endpoints[1]
				cli, got := w.join()
				var conn *server.Conn
				for _, conn = range w.Server().GetOnlineAll() {
				}
				ea.Forward(conn, []byte("block"))
				assert.Equal(t, "block", string(<-got))
				require.NoError(t, w.MoveConn(conn, eb))
				assert.True(t, eb == w.EndpointOf("game", conn))
				outcomes := make(chan error, 100)
				for i := range 3 {
					ea.Forward(conn, fmt.Append(nil, i), func(err error) { outcomes <- err })
				}
				synctest.Wait()
				assert.Empty(t, outcomes)
				assert.Zero(t, b.opened.Load())
				for range 10 {
					eb.Forward(conn, make([]byte, 40<<10), func(err error) { outcomes <- err })
				}
				synctest.Wait()
				assert.Len(t, outcomes, 4, "256 KiB are held")
				for range 4 {
					assert.Equal(t, gateway.ErrMoving, <-outcomes)
				}
				time.Sleep(min(test.blocked, 2*time.Second) + 10*time.Millisecond)
				synctest.Wait()
				assert.EqualValues(t, 1, b.opened.Load())
				assert.Len(t, outcomes, 9)
				for i := range 3 {
					assert.Equal(t, fmt.Sprint(i), string(<-got))
				}
				assert.Equal(t, test.timeout, w.Stats().MovesTimedOut)
				cli.Close()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				assert.Zero(t, a.srv.GetOnlineCount()+b.srv.GetOnlineCount())
				stopA()
				stopB()
			})
		})
	}
}

func TestMoveConnRefuses(t *testing.T) {
	h := newHost(t, "tcp", nil)
	e := h.endpoint()
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("x"))
	conn := onlyConn(t, g)
	assert.NoError(t, g.MoveConn(conn, e), "it is there")
	assert.Equal(t, gateway.ErrConnectionNotFound, g.MoveConn(nil, e))
	assert.Equal(t, gateway.ErrEndpointNotExists, g.MoveConn(conn, nil))
	assert.Equal(t, gateway.ErrEndpointNotExists, g.MoveConn(conn, h.endpoint()))
	bot.Close()
	require.Eventually(t, func() bool { return g.Server().GetOnlineCount() == 0 }, patience, time.Millisecond)
	assert.Equal(t, gateway.ErrConnectionNotFound, g.MoveConn(conn, e), "it has left")
	newBot(t, "tcp", g.address).ask(t, []byte("x"))
	h.srv.Shutdown()
	ready(t, 0, e)
	err := g.MoveConn(onlyConn(t, g), e)
	assert.ErrorIs(t, err, gateway.ErrNoLink)
	assert.ErrorContains(t, err, h.address)
}

// A player that is bound to no endpoint is opened by MoveConn, without a packet; a backend hears an empty packet that is forwarded
// in its place.
func TestOpenAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		open   func(g *gateway.Gateway, conn *server.Conn, e *gateway.Endpoint)
		events []string
	}{
		"MoveConn": {func(g *gateway.Gateway, conn *server.Conn, e *gateway.Endpoint) {
			assert.NoError(t, g.MoveConn(conn, e))
		}, []string{"opened"}},
		"Forward": {func(_ *gateway.Gateway, conn *server.Conn, e *gateway.Endpoint) { e.Forward(conn, nil) }, []string{"opened", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "tcp", nil)
			e := h.endpoint()
			g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
			g.RegConnectionOpenedEventHandle(func(g *gateway.Gateway, conn *server.Conn) { test.open(g, conn, e) })
			ready(t, 1, e)
			newBot(t, "tcp", g.address)
			require.Eventually(t, func() bool {
				heard := h.heard()
				return len(heard) == 1 && slices.Equal(test.events, heard[0])
			}, patience, time.Millisecond)
		})
	}
}

// A backend hands a player over to an endpoint of another name, with its state; where there is none, the player stays.
func TestHandoff(t *testing.T) {
	lobby := newHost(t, "tcp", func(conn *server.Conn, packet []byte) []byte {
		switch string(packet) {
		case "play":
			assert.NoError(t, conn.Handoff("match", []byte("level 7")))
		case "nowhere":
			assert.NoError(t, conn.Handoff("nowhere", nil))
		case "wrong":
			assert.Error(t, conn.Handoff("", nil))
			assert.ErrorIs(t, conn.Handoff("match", make([]byte, 33<<10)), gateway.ErrPacketTooLarge)
		}
		return append([]byte("lobby "), packet...)
	})
	match := newHost(t, "websocket", nil)
	match.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
		conn.Write(append([]byte("welcome at "), match.MoveState(conn)...))
	})
	el := gateway.NewEndpoint("lobby", dial("tcp", lobby.address))
	em := gateway.NewEndpoint("match", dial("websocket", match.address))
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(el, em)), network: "tcp"}
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		e := g.EndpointOf("match", conn)
		if e == nil {
			e, _ = g.GetConnEndpoint("lobby", conn)
		}
		e.Forward(conn, packet)
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.run(t, "")
	ready(t, 1, el, em)
	bot := newBot(t, "tcp", g.address)
	for _, word := range []string{"hello", "wrong", "nowhere"} {
		assert.Equal(t, "lobby "+word, string(bot.ask(t, []byte(word))))
	}
	require.Eventually(t, func() bool { return g.Stats().HandoffsFailed == 1 }, patience, time.Millisecond)
	assert.Equal(t, "lobby play", string(bot.ask(t, []byte("play"))))
	assert.Equal(t, "welcome at level 7", string(bot.next(t)))
	assert.Equal(t, "on", string(bot.ask(t, []byte("on"))))
	assert.Equal(t, []int{0, 1}, []int{el.Sessions(), em.Sessions()})
	assert.True(t, g.EndpointOf("lobby", onlyConn(t, g)) == nil)

	direct := newBot(t, "tcp", lobby.address)
	direct.ask(t, []byte("hello"))
	for _, conn := range lobby.srv.GetOnlineAll() {
		assert.Equal(t, server.ErrNoGateway, conn.Handoff("match", nil))
	}
}

// For players that come and go at random, through two gateways and two backends, each backend sees one opened and one closed for
// each session, and no packet outside.
func TestEventsOfManySessions(t *testing.T) {
	const bots = 500
	a, b := newHost(t, "tcp", nil), newHost(t, "websocket", nil)
	var gateways []*fixture
	for range 2 {
		ea, eb := a.endpoint(gateway.WithEndpointConnectionPoolSize(2)), b.endpoint(gateway.WithEndpointConnectionPoolSize(2))
		g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb))
		ready(t, 2, ea, eb)
		gateways = append(gateways, g)
	}
	limit := make(chan struct{}, 50)
	var playing sync.WaitGroup
	for i := range bots {
		limit <- struct{}{}
		playing.Go(func() {
			defer func() { <-limit }()
			bot := newBot(t, "tcp", gateways[i%2].address)
			for n := range 1 + i%7 {
				if i%3 == 0 { // leaves with its words on their way
					bot.Write(numbered(i, n))
				} else {
					bot.ask(t, numbered(i, n))
				}
			}
			bot.Close()
		})
	}
	playing.Wait()
	require.Eventually(t, func() bool {
		return a.srv.GetOnlineCount()+b.srv.GetOnlineCount() == 0 && a.Stats().Sessions+b.Stats().Sessions == 0
	}, patience, time.Millisecond)
	opened := 0
	for _, h := range []*host{a, b} {
		checkEvents(t, h)
		for _, events := range h.heard() {
			assert.Equal(t, "opened", events[0])
			for _, event := range events { // of several sessions, where a port was used again
				if event == "opened" {
					opened++
				}
			}
			assert.Equal(t, "closed <nil>", events[len(events)-1])
		}
		assert.Zero(t, h.Stats().StrayData+h.Stats().StrayControl)
	}
	assert.Equal(t, bots, opened)
}
