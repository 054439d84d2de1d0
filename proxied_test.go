package gateway_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// sayHello sends a packet as a player behind a proxy on this machine, and waits for the echo.
func sayHello(t *testing.T, network server.Network, address, header string, fields http.Header) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, header)
	require.NoError(t, err)
	if network != server.NetworkWebsocket {
		packet := gwtest.Framed([]byte("hello"))
		_, err = conn.Write(packet)
		require.NoError(t, err)
		echo := make([]byte, len(packet))
		_, err = io.ReadFull(conn, echo)
		require.NoError(t, err)
		assert.Equal(t, packet, echo)
		return
	}
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return conn, nil }}
	ws, _, err := dialer.Dial("ws://"+address+"/", fields)
	require.NoError(t, err)
	require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("hello")))
	_, echo, err := ws.ReadMessage()
	require.NoError(t, err)
	assert.Equal(t, "hello", string(echo))
}

// A player behind a proxy has his own address at the gateway, on the wire and at the backend.
func TestPlayersBehindProxies(t *testing.T) {
	const player, player6 = "203.0.113.7:4711", "[2001:db8::7]:4711"
	for _, tt := range []struct {
		name    string
		network server.Network
		header  string
		fields  http.Header
		want    string
	}{
		{"PROXY", "tcp", "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", nil, player},
		{"PROXY of IPv6", "tcp", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", nil, player6},
		{"PROXY of a mapped address", "tcp", "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 4711 443\r\n", nil, player},
		{"PROXY before a WebSocket", "websocket", "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", nil, player},
		{"X-Forwarded-For", "websocket", "", http.Header{"X-Forwarded-For": {"198.51.100.1, 203.0.113.7:4711"}}, player},
		{"X-Forwarded-For of IPv6", "websocket", "", http.Header{"X-Forwarded-For": {player6}}, player6},
	} {
		for engine, option := range engines() {
			t.Run(tt.name+" "+engine, func(t *testing.T) {
				h, plain := newHost(t, "tcp", nil), newBackend(t, "tcp", nil)
				want := netip.MustParseAddrPort(tt.want)
				for _, e := range []*gateway.Endpoint{h.endpoint(), plain.endpoint("game")} {
					srv := server.New(tt.network, option, server.WithTrustedProxies(netip.MustParsePrefix("127.0.0.1/32")))
					g := newGatewayWith(t, srv, "", "game", gateway.NewStaticScanner(e))
					ready(t, 1, e)
					sayHello(t, tt.network, g.address, tt.header, tt.fields)
					assert.Equal(t, tt.want, onlyConn(t, g).RemoteAddr().String())
				}
				conn := h.only(t)
				assert.Equal(t, net.TCPAddrFromAddrPort(want).String(), conn.RemoteAddr().String())
				assert.IsType(t, &net.TCPAddr{}, conn.RemoteAddr())
				assert.Equal(t, want.Addr().String(), conn.GetIP())
				assert.Contains(t, conn.GetID(), tt.want)
				clients := plain.clients()
				require.Len(t, clients, 1)
				if want.Addr().Is4() {
					assert.Equal(t, tt.want, clients[0], "the key is the player's address")
				} else {
					assert.Regexp(t, `^0\.`, clients[0])
				}
			})
		}
	}
}

// Everything over IPv6: players, links, endpoints' addresses and who may link.
func TestIPv6(t *testing.T) {
	for _, network := range []server.Network{"tcp", "tcp6", "websocket"} {
		t.Run(string(network), func(t *testing.T) {
			srv := server.New(network, hostOptions...)
			backend := gateway.NewBackend(srv, gateway.TrustedGateways(netip.MustParsePrefix("::1/128")))
			require.NoError(t, backend.Err())
			conns := make(chan *server.Conn, 1)
			srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { conns <- conn })
			srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
			address := gwtest.Serve(t, srv, "[::1]:0")
			e := gateway.NewEndpoint("game", dial(network, address))
			assert.Contains(t, e.GetAddress(), address)
			g := newGatewayOn(t, network, "[::1]:0", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			sayHello(t, network, g.address, "", nil)
			front, conn := onlyConn(t, g), <-conns
			assert.Equal(t, "::1", front.GetIP())
			assert.Equal(t, front.RemoteAddr().String(), front.GetID())
			assert.Equal(t, front.RemoteAddr().String(), conn.RemoteAddr().String(), "the player's, not the link's")
			assert.Equal(t, "::1", conn.GetIP())
			assert.Contains(t, conn.GetID(), front.GetID())
		})
	}
}
