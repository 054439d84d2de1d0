package gateway_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// One payload for a thousand clients behind two gateways is one packet for each lane and gateway, however they are named; each
// client gets it once, in order with what was written to it before and after. Direct clients get theirs too.
func TestCast(t *testing.T) {
	const clients, pool = 1000, 2
	h := newHost(t, "tcp", func(*server.Conn, []byte) []byte { return nil })
	p := newProxy(t, h.address)
	var endpoints []*gateway.Endpoint
	var gateways []*fixture
	for range 2 {
		e := gateway.NewEndpoint("game", client.NewTCP(p.address), gateway.WithEndpointConnectionPoolSize(pool))
		endpoints = append(endpoints, e)
		gateways = append(gateways, newGateway(t, "tcp", "game", gateway.NewStaticScanner(e)))
	}
	ready(t, pool, endpoints...)
	var bots []*bot
	for i := range clients {
		b := newBot(t, "tcp", gateways[i%2].address)
		b.Write([]byte("here"))
		bots = append(bots, b)
	}
	direct := newBot(t, "tcp", h.address)
	direct.Write([]byte("here"))
	bots = append(bots, direct)
	require.Eventually(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.conns) == clients+1 }, patience, time.Millisecond)
	var conns []*server.Conn
	h.mu.Lock()
	for _, conn := range h.conns {
		conns = append(conns, conn)
	}
	h.mu.Unlock()
	room := h.Group("room")
	room.Join(conns...)
	room.Join(conns[0]) // once is enough
	assert.Len(t, room.Members(), clients+1)

	payload := bytes.Repeat([]byte("p"), 1000)
	const perKey, overhead, pong = 6, 50, 23 // bytes: a key, headers, and an answer to a PING of a link's each second
	for _, test := range []struct {
		name string
		cast func() error
		keys int // bytes of keys
	}{
		{"conns", func() error { return h.Cast(conns, payload) }, clients * perKey},
		{"all", func() error { return h.CastAll(payload) }, 0},
		{"group", func() error { return room.Cast(payload) }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, conn := range conns {
				conn.Write([]byte("before"))
			}
			for _, b := range bots {
				assert.Equal(t, "before", string(b.next(t)))
			}
			casts, bytes, begun := h.Stats().Casts, p.down.Load(), time.Now()
			require.NoError(t, test.cast())
			for _, b := range bots {
				require.Equal(t, payload, b.next(t))
			}
			carried := p.down.Load() - bytes
			assert.EqualValues(t, 2*pool, h.Stats().Casts-casts, "one for each lane and gateway")
			pongs := 2 + int(time.Since(begun)/time.Second)
			most := int64(2*pool*(len(payload)+overhead+pongs*pong) + test.keys)
			assert.LessOrEqual(t, carried, most, "bytes on the links")
			assert.GreaterOrEqual(t, carried, int64(2*pool*len(payload)))
			for _, conn := range conns {
				conn.Write([]byte("after"))
			}
			for _, b := range bots {
				assert.Equal(t, "after", string(b.next(t)))
			}
		})
	}
	room.Leave(conns[:clients]...)
	assert.Len(t, room.Members(), 1)
	assert.ErrorIs(t, h.CastAll(make([]byte, 1<<20)), gateway.ErrPacketTooLarge)
	for _, g := range gateways {
		assert.Zero(t, g.Stats().DroppedNotOpen+g.Stats().DroppedUnknown+g.Stats().ControlStray)
	}
}

// A browser gets a cast with the type that it speaks, or with the one that the cast names.
func TestCastTypes(t *testing.T) {
	h := newHost(t, "websocket", func(*server.Conn, []byte) []byte { return nil })
	e := h.endpoint()
	g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	ws := dialWS(t, g.address)
	require.NoError(t, ws.WriteMessage(1, []byte("text")))
	require.Eventually(t, func() bool { return len(h.heard()) == 1 }, patience, time.Millisecond)
	conn := h.only(t)
	for wst, want := range map[int]int{0: 1, 1: 1, 2: 2} {
		require.NoError(t, h.CastWS([]*server.Conn{conn}, wst, []byte("x")))
		kind, _, err := ws.ReadMessage()
		require.NoError(t, err)
		assert.Equal(t, want, kind)
	}
}

// Groups survive the loss of lanes, and end with their members.
func TestGroupsFollowTheirMembers(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		room := h.Group("room")
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { room.Join(conn) })
		time.Sleep(3 * time.Second)
		var bots []*client.Client
		var got []chan []byte
		for range 6 {
			cli, packets := w.join()
			cli.Write([]byte("hello"))
			assert.Equal(t, "hello", string(<-packets))
			bots, got = append(bots, cli), append(got, packets)
		}
		expect := func(text string) {
			synctest.Wait()
			for i := range bots {
				if assert.Len(t, got[i], 1, "%s: bot %d", text, i) {
					assert.Equal(t, text, string(<-got[i]))
				}
			}
		}
		require.NoError(t, room.Cast([]byte("one")))
		expect("one")
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		require.NoError(t, room.Cast([]byte("kept")))
		w.net.Refuse("a", false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		expect("kept")
		casts := h.Stats().Casts
		require.NoError(t, room.Cast([]byte("two")))
		expect("two")
		assert.EqualValues(t, 2, h.Stats().Casts-casts, "over both lanes again")
		bots[0].Close()
		synctest.Wait()
		assert.Len(t, room.Members(), 5)
		bots, got = bots[1:], got[1:]
		other := h.Group("another")
		other.Join(room.Members()...)
		room.Close()
		room.Join(other.Members()...)
		assert.Empty(t, room.Members())
		require.NoError(t, room.Cast([]byte("nobody")))
		synctest.Wait()
		for i := range bots {
			assert.Empty(t, got[i])
		}
		require.NoError(t, other.Cast([]byte("three")))
		expect("three")
		other.Leave(other.Members()...)
		assert.False(t, room == h.Group("room"))
		assert.True(t, other == h.Group("another"))
		require.NoError(t, other.Cast([]byte("nobody")))
		synctest.Wait()
		for i := range bots {
			assert.Empty(t, got[i])
			bots[i].Close()
		}
		synctest.Wait()
		stats := w.Stats()
		assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.ControlStray)
		stop()
	})
}

// A backend tries data, KICK, RELEASE and CAST on players it never had: nothing arrives, and all of it is counted.
func TestBackendHasNoSayOverStrangers(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{
			gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("nosy", w.net.Client("b")),
		}}
	}, func(w *world) {
		_, stop := runMemHost(t, w.net, "a")
		nosy := w.net.Server(server.WithLinks())
		var mu sync.Mutex
		var link *server.Conn
		nosy.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			mu.Lock()
			defer mu.Unlock()
			if link = conn; packet[10] == hello {
				conn.Write(forgedWelcome(1, nil, nil, packet[11:]))
				conn.Write(forgedReady())
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- nosy.Run("b") }()
		time.Sleep(3 * time.Second)
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("x"))
		assert.Equal(t, "x", string(<-got))
		control := func(kind byte, body ...byte) []byte {
			return append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind}, body...)
		}
		mu.Lock()
		unknown := []byte{9, 9, 9, 9, 9, 9}
		for _, key := range [][]byte{keyA, unknown} {
			link.Write(append(append(bytes.Clone(key), 0, 0, 0, 0), "data"...))
			link.Write(control(10, append(bytes.Clone(key), 0x0F, 0xA1, 0)...))                            // KICK
			link.Write(control(11, key...))                                                                // RELEASE
			link.Write(control(12, append(append(bytes.Clone(key), 4), "game\x00\x00\x00\x00"...)...))     // HANDOFF
			link.Write(control(13, append([]byte("\x04room"), key...)...))                                 // JOIN
			link.Write(control(15, append(append([]byte{2, 0, 0, 0, 0, 1}, key...), "cast to one"...)...)) // CAST
		}
		link.Write(control(15, append([]byte{2, 1}, "\x04roomcast to a group"...)...))
		link.Write(control(15, append([]byte{2, 2}, "cast to all"...)...))
		link.Write(control(99, 1, 2, 3)) // no such type
		mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Empty(t, got)
		assert.True(t, cli.IsConnected())
		stats := w.Stats()
		assert.EqualValues(t, 2, stats.DroppedUnknown)
		assert.EqualValues(t, 2, stats.DroppedNotOpen)
		assert.EqualValues(t, 8, stats.ControlStray)
		assert.EqualValues(t, 1, stats.ControlUnknown)
		assert.EqualValues(t, 4, stats.Casts)
		assert.Zero(t, stats.Kicked)
		assert.EqualValues(t, 0, stats.LinksClosed)
		cli.Write([]byte("still here"))
		assert.Equal(t, "still here", string(<-got))

		mu.Lock()
		link.Write(control(15, 2, 0, 0xFF, 0xFF, 0xFF, 0xFF)) // malformed
		mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		assert.EqualValues(t, 1, w.Stats().LinksClosed, "a malformed one costs the link")
		cli.Close()
		stop()
		nosy.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// ClientFrom connects a client that the gateway sees come from remote.
func (w *world) ClientFrom(remote string) (cli *client.Client, got chan []byte) {
	cli, got = w.net.ClientFrom("gateway", remote), make(chan []byte, 100)
	cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { got <- packet })
	assert.NoError(w.t, cli.Run())
	synctest.Wait()
	return cli, got
}
