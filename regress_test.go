package gateway_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// A session that moves under two names at once moves to two places.
func TestMovesUnderTwoNames(t *testing.T) {
	named := func(h *host, name string) *gateway.Endpoint {
		return gateway.NewEndpoint(name, dial(h.network, h.address))
	}
	release := make(chan struct{})
	a := newHost(t, "tcp", func(_ *server.Conn, packet []byte) []byte {
		if string(packet) == "block" {
			<-release
		}
		return packet
	})
	b, c, d := newHost(t, "tcp", nil), newHost(t, "tcp", nil), newHost(t, "tcp", nil)
	ea, eb, ec, ed := named(a, "game"), named(b, "game"), named(c, "chat"), named(d, "chat")
	g := newGateway(t, "tcp", "none", gateway.NewStaticScanner(ea, eb, ec, ed))
	ready(t, 1, ea, eb, ec, ed)
	bot := newBot(t, "tcp", g.address)
	require.Eventually(t, func() bool { return g.Stats().ConnectionsOpened == 1 }, patience, time.Millisecond)
	conn := onlyConn(t, g)
	ec.Forward(conn, []byte("chat 1"))
	bot.next(t)
	ea.Forward(conn, []byte("block"))
	require.Eventually(t, func() bool { return a.srv.Stats().PacketsReceived == 1 }, patience, time.Millisecond)
	g.SwitchEndpoint(ea, eb) // waits for a
	g.SwitchEndpoint(ec, ed)
	ea.Forward(conn, []byte("game 2"))
	ec.Forward(conn, []byte("chat 2"))
	assert.Equal(t, "chat 2", string(bot.next(t)), "nothing keeps that one")
	close(release)
	assert.Equal(t, "block", string(bot.next(t)))
	assert.Equal(t, "game 2", string(bot.next(t)))
	assert.Equal(t, [][]string{{"opened", "game 2"}}, b.heard())
	assert.Equal(t, [][]string{{"opened", "chat 2"}}, d.heard())
}

// Sessions that were forwarded to a backend without being bound there don't keep it from draining.
func TestUnboundSessionsDrain(t *testing.T) {
	a, b := newHost(t, "tcp", nil), newHost(t, "tcp", nil)
	ea, eb := a.endpoint(), b.endpoint()
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb))
	ready(t, 1, ea, eb)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("x"))
	conn := onlyConn(t, g)
	for _, e := range []*gateway.Endpoint{ea, eb} {
		e.Forward(conn, []byte("y"))
		bot.next(t)
	}
	require.NoError(t, a.Drain(t.Context()))
	assert.Equal(t, []int{0, 1}, []int{a.srv.GetOnlineCount(), b.srv.GetOnlineCount()})
	assert.Equal(t, "z", string(bot.ask(t, []byte("z"))))
}

// A player that is closed while its session has no link is closed when there is one again.
func TestKickWhileDetached(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		var conn atomic.Pointer[server.Conn]
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, c *server.Conn) { conn.Store(c) })
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("x"))
		<-got
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		conn.Load().CloseWith(4001, "banned")
		synctest.Wait()
		assert.True(t, cli.IsConnected())
		w.net.Refuse("a", false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.False(t, cli.IsConnected())
		assert.EqualValues(t, 1, h.opened.Load())
		assert.EqualValues(t, 1, w.Stats().Kicked)
		assert.Zero(t, gateway.Tombstones(h.Backend))
		stop()
	})
}

// WELCOME doesn't extend the time that the handshake has.
func TestWelcomeExtendsNothing(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithLinkSecret(secretA))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
		var lived, links atomic.Int64
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			if packet[10] == hello {
				time.Sleep(1900 * time.Millisecond)
				conn.Write(forgedWelcome(1, secretA, secretA, packet[11:])) // and no READY
			}
		})
		srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) {
			lived.Store(max(lived.Load(), int64(conn.GetOnlineTime())))
			links.Add(1)
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Positive(t, links.Load())
		assert.LessOrEqual(t, time.Duration(lived.Load()), 2*time.Second)
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// A backend speaks for a session on the session's lane only, and so does a gateway: what comes over another link is dropped and
// counted.
func TestOnlyTheLaneSpeaksForASession(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
		var mu sync.Mutex // guards the next two
		var links []*server.Conn
		lane := ""
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !isControl(packet, true):
				lane = conn.GetID()
			case packet[10] == hello:
				links = append(links, conn)
				conn.Write(forgedWelcome(1, nil, nil, packet[11:]))
				conn.Write(forgedReady())
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(3 * time.Second)
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("x"))
		synctest.Wait()
		mu.Lock()
		require.Len(t, links, 2)
		assert.NotEmpty(t, lane)
		for _, conn := range links {
			conn.Write(append(append([]byte{}, keyA...), 0, 0, 0, 0, 'd'))
		}
		mu.Unlock()
		synctest.Wait()
		assert.Len(t, got, 1, "from the lane, and not from the other link")
		assert.EqualValues(t, 1, w.Stats().DroppedNotOpen)
		cli.Close()
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		var links []*rawLink
		for range 2 {
			l := newRawLink(t, net, "a")
			l.control(hello, helloBody(1, 1, 9, nil))
			links = append(links, l)
		}
		links[0].control(open, openBodyFor(keyA))
		synctest.Wait()
		data, err := gateway.MarshalGatewayOutPacket("203.0.113.7:4711", []byte("x"))
		require.NoError(t, err)
		for _, l := range links {
			l.Write(data)
		}
		links[1].control(open, openBodyFor(keyA)) // with the same number: late
		synctest.Wait()
		assert.EqualValues(t, 1, h.got.Load())
		assert.EqualValues(t, 1, h.opened.Load())
		assert.EqualValues(t, 1, h.Stats().StrayData)
		assert.EqualValues(t, 1, h.Stats().StrayControl)
		for _, l := range links {
			l.Close()
		}
		stop()
	})
}

// A link takes what the protocol needs, however small the packets are that its client was limited to.
func TestSmallestPacketsLink(t *testing.T) {
	h := newHost(t, "tcp", nil)
	e := gateway.NewEndpoint("game", dial("tcp", h.address, client.WithMaxPacketSize(16)))
	attributes := func(*server.Conn) map[string]string { return map[string]string{"token": strings.Repeat("x", 4000)} }
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e), gateway.WithOpenAttributes(attributes))
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	assert.Equal(t, "0123456789abcdef", string(bot.ask(t, []byte("0123456789abcdef"))))
	assert.Len(t, h.only(t).GetData("token"), 4000)
	bot.Write([]byte("0123456789abcdef+"))
	require.Eventually(t, func() bool { return g.Stats().ForwardsFailed == 1 }, patience, time.Millisecond, "the limit is still the client's")
}

// A direct client that comes back from where it was joins the group that it was in.
func TestComesBackToTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		room := h.Group("room")
		var conn *server.Conn
		h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, c *server.Conn, _ []byte) { conn = c; room.Join(c) })
		var first *server.Conn
		for round := range 2 {
			cli, got := net.ClientFrom("a", "203.0.113.7:4711"), make(chan []byte, 10)
			cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { got <- packet })
			require.NoError(t, cli.Run())
			cli.Write([]byte("x"))
			assert.Equal(t, "x", string(<-got))
			synctest.Wait()
			if round == 0 {
				first = conn
				cli.Close()
				synctest.Wait()
				continue
			}
			require.Equal(t, first.GetID(), conn.GetID())
			room.Leave(first) // which is another one
			assert.NoError(t, room.Cast([]byte("hello")))
			assert.Equal(t, "hello", string(<-got))
			assert.Len(t, room.Members(), 1)
			cli.Close()
			synctest.Wait()
			assert.Empty(t, room.Members())
		}
		stop()
	})
}
