package gateway_test

import (
	"fmt"
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

// outcomes are the results of Forwards, by who sent and which it was.
type outcomes struct {
	mu      sync.Mutex
	results map[[2]int][]error
	asked   int
}

func (o *outcomes) forward(t *testing.T, g *gateway.Gateway, conn *server.Conn, packet []byte) {
	who, n := readNumber(t, packet)
	o.mu.Lock()
	o.asked++
	o.mu.Unlock()
	note := func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.results[[2]int{who, n}] = append(o.results[[2]int{who, n}], err)
	}
	e, err := g.GetConnEndpoint("game", conn)
	if err != nil {
		note(err)
		return
	}
	e.Forward(conn, packet, note)
}

func (o *outcomes) count() (asked, answered int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, results := range o.results {
		answered += len(results)
	}
	return o.asked, answered
}

// TestLaneDeath cuts links in the middle of packets under traffic: nothing is doubled, reordered or misrouted, every
// callback is called once, and nil only for what was handed to the kernel.
func TestLaneDeath(t *testing.T) {
	for _, network := range []server.Network{"tcp", "websocket"} {
		for _, pool := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, pool %d", network, pool), func(t *testing.T) { playLaneDeath(t, network, pool) })
		}
	}
}

func playLaneDeath(t *testing.T, network server.Network, pool int) {
	const bots, packets, cuts = 32, 600, 12
	b := newBackend(t, network, nil)
	p := newProxy(t, b.address)
	e := gateway.NewEndpoint("game", dial(network, p.address), gateway.WithEndpointConnectionPoolSize(pool),
		gateway.WithEndpointReconnectInterval(20*time.Millisecond))
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(e)), network: "tcp"}
	results := &outcomes{results: map[[2]int][]error{}}
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		results.forward(t, g, conn, packet)
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.run(t, "")
	ready(t, pool, e)

	var sent atomic.Int64
	due := make(chan struct{}, cuts) // a cut, each time so much was sent
	var playing sync.WaitGroup
	all := make([]*bot, bots)
	for who := range bots {
		bot := newBot(t, "tcp", g.address)
		all[who] = bot
		last := -1
		bot.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) {
			from, n := readNumber(t, packet)
			assert.Equal(t, who, from, "misrouted")
			assert.Greater(t, n, last, "doubled or reordered")
			last = n
		}, -1)
		playing.Go(func() {
			for n := range packets {
				wrote := make(chan struct{})
				bot.Write(numbered(who, n), func(error) { close(wrote) })
				<-wrote
				if sent.Add(1)%(bots*packets/(cuts+2)) == 0 {
					select {
					case due <- struct{}{}:
					default:
					}
				}
				select {
				case <-bot.got:
				default:
				}
			}
		})
	}
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for i := range cuts {
			<-due
			assert.Eventually(t, func() bool {
				return g.Stats().LinksClosed == uint64(i) && e.Links() == pool && p.connections() == pool
			}, patience, time.Millisecond)
			assert.True(t, p.cutOne(i))
		}
	})
	playing.Wait()
	cutting.Wait()
	require.Eventually(t, func() bool { return g.Stats().LinksClosed == cuts }, patience, time.Millisecond)
	ready(t, pool, e)
	for who, bot := range all { // whatever was lost, nobody is cut off
		bot.Write(numbered(who, packets))
		for n := -1; n != packets; {
			_, n = readNumber(t, bot.next(t))
		}
	}
	require.Eventually(t, func() bool {
		asked, answered := results.count()
		return asked == bots*(packets+1) && answered == asked
	}, patience, time.Millisecond, "every callback is called")
	checkLaneDeath(t, b, results)
}

func checkLaneDeath(t *testing.T, b *backend, results *outcomes) {
	results.mu.Lock()
	defer results.mu.Unlock()
	written, failed := 0, 0
	for id, errs := range results.results {
		require.Len(t, errs, 1, "callbacks of %v", id)
		if errs[0] == nil {
			written++
		} else {
			failed++
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := map[int]int{}
	for _, packet := range b.all {
		who, n := readNumber(t, []byte(packet))
		before, seen := last[who]
		require.True(t, !seen || n > before, "bot %d: %d after %d", who, n, before)
		last[who] = n
		require.NoError(t, results.results[[2]int{who, n}][0], "arrived, so it was written")
	}
	assert.LessOrEqual(t, len(b.all), written)
	t.Logf("written %d, arrived %d, failed %d", written, len(b.all), failed)
}

// A link whose peer takes nothing dies at the write timeout. What it had not written goes over the other link, in order,
// with the sessions, and nobody gets an error.
func TestFailoverMovesWhatWasNotWritten(t *testing.T) {
	const packets = 50
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{w.endpoint("a", gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
		frozen, links, arrived := make(chan struct{}), map[string]string{}, map[string][]string{}
		var mu sync.Mutex
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, link *server.Conn, data []byte) {
			player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
			assert.NoError(t, err)
			if string(packet) == "freeze" {
				<-frozen
				return
			}
			mu.Lock()
			defer mu.Unlock()
			links[player] = link.GetID()
			arrived[player] = append(arrived[player], string(packet))
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		players := []*client.Client{}
		for range 3 { // the first and the third on one link
			cli, _ := w.join()
			defer cli.Close()
			cli.Write([]byte("hello"))
			synctest.Wait()
			players = append(players, cli)
		}
		assert.Len(t, links, 3)
		players[0].Write([]byte("freeze"))
		synctest.Wait()
		for n := range packets {
			players[0].Write(fmt.Append(nil, n))
			players[2].Write(fmt.Append(nil, n))
		}
		synctest.Wait()
		assert.EqualValues(t, 4, w.Stats().PacketsForwarded)
		time.Sleep(client.DefaultWriteTimeout + 100*time.Millisecond)
		synctest.Wait()
		stats := w.Stats()
		assert.EqualValues(t, 2*packets, stats.PacketsMoved)
		assert.EqualValues(t, 4+2*packets, stats.PacketsForwarded)
		assert.Zero(t, stats.ForwardsFailed)
		mu.Lock()
		used := map[string]bool{}
		for player, all := range arrived {
			used[links[player]] = true
			for n, packet := range all[1:] {
				assert.Equal(t, fmt.Sprint(n), packet, "of %s", player)
			}
		}
		assert.Len(t, used, 1, "everybody is on the link that lives")
		mu.Unlock()
		close(frozen)
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}
