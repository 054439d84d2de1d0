package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// host is an endpoint made with NewBackend, and what its handlers heard.
type host struct {
	*gateway.Backend
	srv     *server.Server
	network server.Network
	address string

	mu     sync.Mutex
	events map[string][]string // by conn ID
	conns  map[string]*server.Conn
}

// hostOptions are what newHost gives its servers.
var hostOptions []server.Option

// newHost runs a backend that answers each packet with answer's result; nil: an echo.
func newHost(t testing.TB, network server.Network, answer func(conn *server.Conn, packet []byte) []byte, options ...gateway.BackendOption) *host {
	return newHostOf(t, server.New(network, hostOptions...), answer, options...)
}

// newHostOf is newHost for a server of one's own.
func newHostOf(t testing.TB, srv *server.Server, answer func(conn *server.Conn, packet []byte) []byte, options ...gateway.BackendOption) *host {
	h := &host{srv: srv, network: srv.GetNetwork(), events: map[string][]string{}, conns: map[string]*server.Conn{}}
	h.Backend = gateway.NewBackend(h.srv, options...)
	require.NoError(t, h.Err())
	h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { h.note(conn, "opened") })
	h.srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) { h.note(conn, fmt.Sprint("closed ", err)) })
	h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		h.note(conn, string(packet))
		if answer != nil {
			packet = answer(conn, packet)
		}
		if packet != nil {
			conn.Write(packet)
		}
	})
	h.address = gwtest.Serve(t, h.srv, listenAddress(t, h.network))
	return h
}

func (h *host) note(conn *server.Conn, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events[conn.GetID()] = append(h.events[conn.GetID()], what)
	h.conns[conn.GetID()] = conn
}

func (h *host) endpoint(options ...gateway.EndpointOption) *gateway.Endpoint {
	return gateway.NewEndpoint("game", dial(h.network, h.address), options...)
}

// heard returns what was noted about each conn.
func (h *host) heard() [][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all [][]string
	for _, events := range h.events {
		all = append(all, append([]string(nil), events...))
	}
	return all
}

// only returns the one conn that there is.
func (h *host) only(t testing.TB) *server.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.conns, 1)
	for _, conn := range h.conns {
		return conn
	}
	return nil
}

var backNetworks = []server.Network{server.NetworkWebsocket, server.NetworkTcp, server.NetworkUnix}

// A client behind a gateway is a conn of the backend's server like any other.
func TestBackendConn(t *testing.T) {
	for _, network := range backNetworks {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, nil)
			e := h.endpoint(gateway.WithEndpointConnectionPoolSize(2))
			g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e), gateway.WithName("front"),
				gateway.WithOpenAttributes(func(conn *server.Conn) map[string]string {
					return map[string]string{"token": conn.GetData("token").(string), "language": "eo"}
				}))
			ready(t, 2, e)
			assert.Equal(t, 2, h.Links())
			bot := &bot{Client: client.NewWebsocket("ws://" + g.address + "/?token=s3cret"), got: make(chan []byte, 10)}
			bot.RegConnectionReceivePacketEvent(func(_ *client.Client, wst int, packet []byte) {
				bot.got <- append([]byte{byte('0' + wst), ' '}, packet...)
			})
			require.NoError(t, bot.Run())
			defer bot.Close()
			bot.WriteWS(server.WebsocketMessageTypeText, []byte("one"))
			assert.Equal(t, "1 one", string(bot.next(t)))
			bot.WriteWS(server.WebsocketMessageTypeBinary, []byte("two"))
			assert.Equal(t, "2 two", string(bot.next(t)))
			bot.WriteWS(server.WebsocketMessageTypeBinary, nil)
			assert.Equal(t, "2 ", string(bot.next(t)), "an empty packet is a packet")

			conn := h.only(t)
			front := onlyConn(t, g)
			assert.Equal(t, front.RemoteAddr().String(), conn.RemoteAddr().String(), "the player's address")
			assert.Equal(t, "127.0.0.1", conn.GetIP())
			assert.Contains(t, conn.GetID(), front.GetID())
			assert.Equal(t, "s3cret", conn.GetData("token"))
			assert.Equal(t, "eo", conn.GetData("language"))
			assert.Equal(t, 1, h.srv.GetOnlineCount(), "links are not online")
			assert.NotNil(t, h.srv.GetOnline(conn.GetID()))
			conn.SetWST(server.WebsocketMessageTypeText).Write([]byte("pushed"))
			assert.Equal(t, "1 pushed", string(bot.next(t)))
			h.srv.Broadcast([]byte("all"))
			assert.Equal(t, "2 all", string(bot.next(t)))
			assert.True(t, e == g.EndpointOf("game", front))
			assert.Len(t, g.Conns(), 1)

			bot.Close()
			require.Eventually(t, func() bool { return conn.IsClosed() && h.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
			assert.Equal(t, [][]string{{"opened", "one", "two", "", "closed <nil>"}}, h.heard())
			late := make(chan error, 1)
			conn.Write([]byte("late"), func(err error) { late <- err })
			assert.ErrorIs(t, <-late, server.ErrConnClosed)
			assert.Zero(t, h.Stats().StrayData)
			assert.Zero(t, h.Stats().Sessions)
			assert.Zero(t, g.Stats().ControlUnknown)
			require.Eventually(t, func() bool { return gateway.OpenSessions(e) == 0 }, patience, time.Millisecond, "once CLOSE was written")
		})
	}
}

// Close at the backend closes the client, after what was written to it before, with the code that was given.
func TestBackendKick(t *testing.T) {
	for name, test := range map[string]struct {
		close func(conn *server.Conn)
		code  int
	}{
		"without a code": {func(conn *server.Conn) { conn.Close() }, 1008},
		"with a code":    {func(conn *server.Conn) { conn.CloseWith(4123, "cheater") }, 4123},
		"illegal code":   {func(conn *server.Conn) { conn.CloseWith(1002, "cheater") }, 1008},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "tcp", func(conn *server.Conn, packet []byte) []byte {
				conn.Write([]byte("last words"))
				test.close(conn)
				return []byte("too late")
			})
			e := h.endpoint()
			g := newGateway(t, "websocket", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			ws := dialWS(t, g.address)
			require.NoError(t, ws.WriteMessage(1, []byte("x")))
			_, packet, err := ws.ReadMessage()
			require.NoError(t, err)
			assert.Equal(t, "last words", string(packet))
			_, _, err = ws.ReadMessage()
			assert.Equal(t, test.code, closeCode(err))
			require.Eventually(t, func() bool { return g.Server().GetOnlineCount() == 0 && gateway.OpenSessions(e) == 0 }, patience, time.Millisecond)
			require.Eventually(t, func() bool { return gateway.Tombstones(h.Backend) == 0 && h.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
			assert.EqualValues(t, 1, g.Stats().Kicked)
			assert.Equal(t, [][]string{{"opened", "x", "closed <nil>"}}, h.heard())
		})
	}
}

// Release ends the session, and the client's next packet opens another.
func TestBackendRelease(t *testing.T) {
	h := newHost(t, "tcp", func(conn *server.Conn, packet []byte) []byte {
		if string(packet) == "leave me" {
			conn.Release()
			return nil
		}
		return packet
	})
	e := h.endpoint()
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("first"))
	bot.Write([]byte("leave me"))
	require.Eventually(t, func() bool {
		return e.Sessions() == 0 && gateway.OpenSessions(e) == 0 && h.srv.GetOnlineCount() == 0 // and its ID is free
	}, patience, time.Millisecond)
	assert.Equal(t, "second", string(bot.ask(t, []byte("second"))))
	assert.ElementsMatch(t, [][]string{{"opened", "first", "leave me", "closed <nil>", "opened", "second"}}, h.heard())
}

// Direct clients and a gateway's use one server at once.
func TestBackendServesDirectClients(t *testing.T) {
	for _, network := range backNetworks {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, nil)
			e := h.endpoint()
			g := newGateway(t, network, "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			direct, behind := newBot(t, network, h.address), newBot(t, network, g.address)
			assert.Equal(t, "direct", string(direct.ask(t, []byte("direct"))))
			assert.Equal(t, "behind", string(behind.ask(t, []byte("behind"))))
			assert.Equal(t, 2, h.srv.GetOnlineCount())
			h.srv.Broadcast([]byte("both"))
			assert.Equal(t, "both", string(direct.next(t)))
			assert.Equal(t, "both", string(behind.next(t)))
			// The identifier in a direct client's packet makes it nobody else.
			for id := range h.srv.GetOnlineAll() {
				forged, err := gateway.MarshalGatewayOutPacket("127.0.0.1:1", []byte(id))
				require.NoError(t, err)
				assert.Equal(t, forged, direct.ask(t, forged))
			}
			direct.Close()
			require.Eventually(t, func() bool { return h.srv.GetOnlineCount() == 1 }, patience, time.Millisecond)
			assert.Equal(t, "still", string(behind.ask(t, []byte("still"))))
		})
	}
}

// The end of either process is an end for the sessions, not for the players.
func TestBackendShutdown(t *testing.T) {
	h := newHost(t, "tcp", nil)
	spare := newHost(t, "websocket", nil)
	e, other := h.endpoint(), spare.endpoint()
	first := func(endpoints []*gateway.Endpoint) *gateway.Endpoint {
		for _, each := range endpoints {
			if each == e {
				return e
			}
		}
		return endpoints[0]
	}
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e, other), gateway.WithEndpointSelector(first))
	ready(t, 1, e, other)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("1"))
	h.srv.Shutdown()
	ready(t, 0, e)
	assert.Equal(t, "2", string(bot.ask(t, []byte("2"))))
	assert.True(t, bot.IsConnected())
	require.Eventually(t, func() bool { return h.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
	assert.Equal(t, [][]string{{"opened", "1", "closed " + server.ErrGoingAway.Error()}}, h.heard())
	assert.Equal(t, [][]string{{"opened", "2"}}, spare.heard())

	g.Shutdown()
	require.Eventually(t, func() bool { return spare.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
	assert.Equal(t, [][]string{{"opened", "2", "closed <nil>"}}, spare.heard())
}

// A backend that the gateway gives up hears of the end of each session, also of those that were forwarded to statelessly.
func TestDroppedBackendIsTold(t *testing.T) {
	a, b := newHost(t, "tcp", nil), newHost(t, "tcp", nil)
	ea, eb := a.endpoint(), b.endpoint()
	var listed sync.Map
	listed.Store(ea, true)
	listed.Store(eb, true)
	g := newGateway(t, "tcp", "game", gateway.NewFuncScanner(10*time.Millisecond, func() (found []*gateway.Endpoint, err error) {
		listed.Range(func(e, _ any) bool { found = append(found, e.(*gateway.Endpoint)); return true })
		return found, nil
	}))
	ready(t, 1, ea, eb)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("x"))
	conn := onlyConn(t, g)
	ea.Forward(conn, []byte("to a"))
	bot.next(t)
	eb.Forward(conn, []byte("to b")) // and is bound there now
	bot.next(t)
	assert.Equal(t, 1, a.srv.GetOnlineCount())
	listed.Delete(ea)
	require.Eventually(t, func() bool { return a.srv.GetOnlineCount() == 0 }, patience, time.Millisecond, "and not after the grace time")
	assert.Equal(t, 1, b.srv.GetOnlineCount())
}

// The context of a player's connection at the backend ends with it: when the player leaves, and when the backend closes it.
func TestBackendContext(t *testing.T) {
	conns := make(chan *server.Conn, 2)
	h := newHost(t, server.NetworkTcp, func(conn *server.Conn, packet []byte) []byte { conns <- conn; return packet })
	e := h.endpoint()
	g := newGateway(t, server.NetworkWebsocket, "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	reason := errors.New("reason")
	for _, test := range []struct {
		end  func(b *bot, conn *server.Conn)
		want error
	}{
		{func(b *bot, _ *server.Conn) { b.Close() }, server.ErrConnClosed},
		{func(_ *bot, conn *server.Conn) { conn.Close(reason) }, reason},
	} {
		b := newBot(t, server.NetworkWebsocket, g.address)
		b.ask(t, []byte("hello"))
		conn := <-conns
		ctx := conn.Context()
		require.NoError(t, ctx.Err())
		test.end(b, conn)
		<-ctx.Done()
		assert.ErrorIs(t, context.Cause(ctx), test.want)
	}
}
