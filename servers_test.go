package gateway_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// A gateway with several servers is one gateway: clients of all of them are on the same endpoints, are found, moved and cast to alike, and
// Shutdown ends all of it.
func TestServers(t *testing.T) {
	first, second := newHost(t, server.NetworkTcp, nil), newHost(t, server.NetworkWebsocket, nil)
	a, b := first.endpoint(), second.endpoint()
	beside := map[server.Network]*server.Server{server.NetworkWebsocket: server.New(server.NetworkWebsocket), server.NetworkUnix: server.New(server.NetworkUnix)}
	var options []gateway.Option
	for network, srv := range beside {
		options = append(options, gateway.WithServers(listenAddress(t, network), srv))
	}
	options = append(options, gateway.WithEndpointSelector(func(endpoints []*gateway.Endpoint) *gateway.Endpoint {
		if slices.Contains(endpoints, a) {
			return a
		}
		return nil
	}))
	g := newGateway(t, server.NetworkTcp, "game", gateway.NewStaticScanner(a, b), options...)
	ready(t, 1, a, b)
	assert.Len(t, g.Servers(), 3)
	assert.Same(t, g.Server(), g.Servers()[0])

	bots := []*bot{newBot(t, server.NetworkTcp, g.address)}
	for network, srv := range beside {
		bots = append(bots, newBot(t, network, srv.Addr().String()))
	}
	for _, bot := range bots {
		assert.Equal(t, "hello", string(bot.ask(t, []byte("hello"))))
	}
	assert.Equal(t, 3, g.GetOnlineCount())
	require.Len(t, g.Conns(), 3)
	for _, conn := range g.Conns() {
		assert.Equal(t, conn.GetID(), g.GetOnline(conn.GetID()).GetID())
		assert.Same(t, a, g.EndpointOf("game", conn))
	}
	assert.Nil(t, g.GetOnline("nobody"))

	g.SwitchEndpoint(a, b)
	for _, bot := range bots {
		assert.Equal(t, "more", string(bot.ask(t, []byte("more"))))
	}
	for _, conn := range g.Conns() {
		assert.Same(t, b, g.EndpointOf("game", conn))
	}
	second.CastAll([]byte("everybody"))
	for _, bot := range bots {
		assert.Equal(t, "everybody", string(bot.next(t)))
	}
	g.Shutdown()
	require.NoError(t, g.Wait())
	for _, srv := range g.Servers() {
		assert.Nil(t, srv.Addr())
	}
	assert.Zero(t, g.GetOnlineCount())
}

// Where one of the servers ends, however, all end.
func TestServersEndTogether(t *testing.T) {
	for name, end := range map[string]func(*server.Server){
		"shut down":   func(srv *server.Server) { srv.Shutdown() },
		"out of life": func(*server.Server) {},
	} {
		t.Run(name, func(t *testing.T) {
			var options []server.Option
			if name == "out of life" {
				options = append(options, server.WithLimitLife(time.Millisecond))
			}
			main, beside := server.New(server.NetworkTcp), server.New(server.NetworkTcp, options...)
			g := gateway.NewGateway(main, gateway.NewStaticScanner(), gateway.WithServers("127.0.0.1:0", beside))
			require.NoError(t, g.Start(t.Context(), "127.0.0.1:0"))
			end(beside)
			assert.NoError(t, g.Wait())
			assert.Nil(t, main.Addr())
			assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrGatewayClosed)
		})
	}
}

// A server that can't listen is an error of Run, and nothing is left of the others; the next Run may go well.
func TestServersFailTogether(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := ln.Addr().String()
	main, beside := server.New(server.NetworkTcp), server.New(server.NetworkTcp)
	g := gateway.NewGateway(main, gateway.NewStaticScanner(), gateway.WithServers(taken, beside))
	err = g.Run("127.0.0.1:0")
	assert.ErrorContains(t, err, taken)
	assert.Nil(t, main.Addr())
	ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, g.Start(ctx, "127.0.0.1:0"))
	assert.Equal(t, taken, beside.Addr().String())
	assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrGatewayRunning)
	cancel()
	assert.NoError(t, g.Wait())
	assert.ErrorIs(t, g.Run("nowhere"), server.ErrBadAddress)
	assert.Nil(t, beside.Addr())

	require.NoError(t, g.Start(t.Context(), "127.0.0.1:0"), "the end of a context, or an error, is not for good")
	g.Shutdown()
	assert.NoError(t, g.Wait())
	assert.ErrorIs(t, g.Start(t.Context()), gateway.ErrGatewayClosed)
}

func TestServersRefusesTwins(t *testing.T) {
	srv := server.New(server.NetworkTcp)
	for name, option := range map[string]gateway.Option{
		"nil": gateway.WithServers("127.0.0.1:0", nil), "the first one": gateway.WithServers("127.0.0.1:0", srv),
	} {
		t.Run(name, func(t *testing.T) {
			g := gateway.NewGateway(srv, gateway.NewStaticScanner(), option)
			assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrBadOption)
		})
	}
}

// The gateway is a part of a web site: it listens nowhere by itself.
func TestGatewayInAMux(t *testing.T) {
	h := newHost(t, server.NetworkTcp, nil)
	e := h.endpoint()
	srv := server.New(server.NetworkWebsocket)
	g := gateway.NewGateway(srv, gateway.NewStaticScanner(e))
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := g.GetConnEndpoint("game", conn); assert.NoError(t, err) {
			e.Forward(conn, packet)
		}
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) { conn.Write(packet) })
	require.NoError(t, g.Start(t.Context()))
	mux := http.NewServeMux()
	mux.Handle("/play", g.Server())
	site := httptest.NewServer(mux)
	defer site.Close()
	ready(t, 1, e)
	b := &bot{Client: client.NewWebsocket(strings.Replace(site.URL, "http", "ws", 1) + "/play"), got: make(chan []byte, 1)}
	b.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { b.got <- packet })
	require.NoError(t, b.Run())
	defer b.Close()
	assert.Equal(t, "hello", string(b.ask(t, []byte("hello"))))
	g.Shutdown()
	assert.NoError(t, g.Wait())
}
