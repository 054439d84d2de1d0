package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// A lane that is killed under traffic causes no events, and the loss that both sides report is what was lost: neither more
// nor less than the packets that a kernel took and nobody got.
func TestLaneLossIsCountedExactly(t *testing.T) {
	for _, network := range []server.Network{"tcp", "websocket"} {
		for _, pool := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, pool %d", network, pool), func(t *testing.T) { playLaneLoss(t, network, pool) })
		}
	}
}

func playLaneLoss(t *testing.T, network server.Network, pool int) {
	const bots, packets, cuts = 16, 800, 8
	var up, down struct{ written, got atomic.Int64 }
	var pending atomic.Int64 // callbacks that are still to come
	h := newHost(t, network, func(conn *server.Conn, packet []byte) []byte {
		up.got.Add(1)
		pending.Add(1)
		conn.Write(packet, func(err error) {
			if err == nil {
				down.written.Add(1)
			}
			pending.Add(-1)
		})
		return nil
	})
	p := newProxy(t, h.address)
	e := gateway.NewEndpoint("game", dial(network, p.address), gateway.WithEndpointConnectionPoolSize(pool),
		gateway.WithEndpointReconnectInterval(20*time.Millisecond))
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(e)), network: "tcp"}
	g.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, conn *server.Conn, packet []byte) {
		pending.Add(1)
		e.Forward(conn, packet, func(err error) {
			if err == nil {
				up.written.Add(1)
			}
			pending.Add(-1)
		})
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(*gateway.Gateway, *gateway.Endpoint, *server.Conn, []byte) { down.got.Add(1) })
	g.run(t, "")
	ready(t, pool, e)

	var sent atomic.Int64
	var playing sync.WaitGroup
	var all []*bot
	for who := range bots {
		bot := newBot(t, "tcp", g.address)
		all = append(all, bot)
		playing.Go(func() {
			for n := range packets {
				wrote := make(chan struct{})
				bot.Write(numbered(who, n), func(error) { close(wrote) })
				<-wrote
				sent.Add(1)
			}
		})
	}
	for i := range cuts {
		require.Eventually(t, func() bool {
			return sent.Load() >= int64(bots*packets*(i+1)/(cuts+2)) && e.Links() == pool && p.connections() == pool
		}, patience, time.Millisecond)
		require.True(t, p.cutOne(i))
		require.Eventually(t, func() bool { return g.Stats().LinksClosed == uint64(i+1) }, patience, time.Millisecond)
	}
	playing.Wait()
	ready(t, pool, e)
	require.Eventually(t, func() bool { return g.Stats().PacketsReceived == bots*packets }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return pending.Load() == 0 }, patience, time.Millisecond)
	// A last exchange, behind everything: what has not come then will not come.
	lastDown := down.got.Load()
	for who, bot := range all {
		bot.Write(numbered(who, packets))
	}
	require.Eventually(t, func() bool { return down.got.Load() >= lastDown && e.Sessions() == bots }, patience, time.Millisecond)
	equal := func() bool {
		return uint64(up.written.Load()-up.got.Load()) == g.Stats().LostUp && g.Stats().LostUp == h.Stats().LostUp &&
			uint64(down.written.Load()-down.got.Load()) == g.Stats().LostDown && g.Stats().LostDown == h.Stats().LostDown
	}
	if !assert.Eventually(t, equal, patience, 10*time.Millisecond) {
		t.Logf("up: written %d, got %d; down: written %d, got %d", up.written.Load(), up.got.Load(), down.written.Load(), down.got.Load())
		t.Logf("gateway %+v", g.Stats())
		t.Logf("backend %+v", h.Stats())
	}
	t.Logf("lost %d up, %d down", g.Stats().LostUp, g.Stats().LostDown)
	for _, events := range h.heard() {
		assert.Equal(t, "opened", events[0])
		assert.False(t, slices.ContainsFunc(events[1:], func(e string) bool { return e == "opened" || strings.HasPrefix(e, "closed") }))
	}
	assert.Len(t, h.heard(), bots)
}

// When all links are cut, and come back within the grace time, sessions go on; after it they have closed, and their next
// packet opens them anew.
func TestGraceTime(t *testing.T) {
	for _, test := range []struct {
		name   string
		outage time.Duration
		events string
	}{
		{"within", 8 * time.Second, "opened one two "},
		{"beyond", 14 * time.Second, "opened one closed opened two "},
	} {
		t.Run(test.name, func(t *testing.T) {
			var mu sync.Mutex
			heard := ""
			note := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				heard += what + " "
			}
			inWorld(t, time.Hour, func(w *world) found {
				return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
			}, func(w *world) {
				h, stop := runMemHost(t, w.net, "a")
				h.srv.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { note("opened") })
				h.srv.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { note("closed") })
				h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) { note(string(packet)) })
				time.Sleep(3 * time.Second)
				cli, got := w.join()
				cli.Write([]byte("one"))
				assert.Equal(t, "one", string(<-got))
				w.net.Refuse("a", true)
				w.net.Cut("a")
				time.Sleep(test.outage)
				w.net.Refuse("a", false)
				time.Sleep(3 * time.Second)
				cli.Write([]byte("two"))
				assert.Equal(t, "two", string(<-got))
				synctest.Wait()
				mu.Lock()
				assert.Equal(t, test.events, heard)
				mu.Unlock()
				cli.Close()
				stop()
			})
		})
	}
}

// What is written to a session while its links are down is kept, and goes out when one is back.
func TestWritesWaitForTheLink(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		var conn atomic.Pointer[server.Conn]
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, c *server.Conn) { conn.Store(c) })
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("one"))
		<-got
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		outcomes := make(chan error, 1000)
		for i := range 3 {
			conn.Load().Write(fmt.Append(nil, "kept ", i), func(err error) { outcomes <- err })
		}
		time.Sleep(time.Second)
		assert.Empty(t, outcomes)
		w.net.Refuse("a", false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for i := range 3 {
			assert.Equal(t, fmt.Sprint("kept ", i), string(<-got))
			assert.NoError(t, <-outcomes)
		}
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		for range 8 { // 256 KiB and no more
			conn.Load().Write(make([]byte, 40<<10), func(err error) { outcomes <- err })
		}
		synctest.Wait()
		assert.True(t, conn.Load().IsClosed(), "a slow consumer")
		assert.Len(t, outcomes, 8, "every callback was called")
		for range 8 {
			assert.Error(t, <-outcomes)
		}
		cli.Close()
		stop()
	})
}

// A backend that is started anew at the same address knows none of the sessions: they are opened anew with their next packet,
// and none is half there.
func TestBackendStartedAnew(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		_, stop := runMemHost(t, w.net, "a")
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("one"))
		<-got
		stop()
		h, stop := runMemHost(t, w.net, "a")
		time.Sleep(3 * time.Second)
		assert.Zero(t, h.opened.Load(), "nobody has sent anything yet")
		cli.Write([]byte("two"))
		assert.Equal(t, "two", string(<-got))
		synctest.Wait()
		assert.EqualValues(t, 1, h.opened.Load())
		cli.Close()
		synctest.Wait()
		assert.Zero(t, h.srv.GetOnlineCount())
		stop()
	})
}

// A link whose backend has vanished without a word is noticed by its silence.
func TestSilentBackend(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
		var pings atomic.Int32
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			switch packet[10] {
			case hello:
				conn.Write(forgedWelcome(1, nil, nil, packet[11:]))
				conn.Write(forgedReady())
			case 16:
				if pings.Add(1) <= 3 {
					time.Sleep(100 * time.Millisecond)
					conn.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17}, packet[11:]...))
				}
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		e, err := w.GetEndpoint("game")
		require.NoError(t, err)
		assert.InDelta(t, 100*time.Millisecond, e.Delay(), float64(30*time.Millisecond), "measured by PING, without any traffic")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 1, w.Stats().LinksClosed)
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// A gateway that is gone, without a word, leaves no session after the grace time; one that shuts down leaves none at once.
func TestGatewayGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		for _, goodbye := range []bool{false, true} {
			l := newRawLink(t, net, "a")
			l.control(hello, helloBody(1, 1, 9, nil))
			l.control(open, openBodyFor(keyA))
			synctest.Wait()
			assert.Equal(t, 1, h.Stats().Sessions)
			if goodbye {
				l.control(20, []byte{4})
				synctest.Wait()
			}
			l.Abort(nil)
			synctest.Wait()
			if !goodbye {
				time.Sleep(gateway.DefaultGrace - time.Millisecond)
				synctest.Wait()
				assert.Equal(t, 1, h.Stats().Sessions)
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
			}
			assert.Zero(t, h.Stats().Sessions)
			assert.Zero(t, h.srv.GetOnlineCount())
		}
		stop()
	})
}

// A gateway whose host has vanished without a word is noticed by its silence, at the backend too.
func TestSilentGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a", gateway.WithGrace(5*time.Second))
		l := newRawLink(t, net, "a")
		l.control(hello, helloBody(1, 1, 9, nil))
		l.control(open, openBodyFor(keyA))
		for range 20 { // it pings
			time.Sleep(time.Second)
			l.control(16, make([]byte, 8))
		}
		synctest.Wait()
		assert.Equal(t, 1, h.Links())
		time.Sleep(9900 * time.Millisecond) // and no more
		synctest.Wait()
		assert.Equal(t, 1, h.Links())
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		assert.Zero(t, h.Links())
		assert.Equal(t, 1, h.Stats().Sessions)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Zero(t, h.Stats().Sessions)
		l.Close()
		stop()
	})
}
