package server_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

func TestTrustedProxiesWhereNobodyCanNameAClient(t *testing.T) {
	trust := server.WithTrustedProxies(trustedProxies...)
	for _, network := range []server.Network{server.NetworkUdp, server.NetworkUdp4, server.NetworkUdp6, server.NetworkUnix, server.NetworkKcp} {
		assert.ErrorIs(t, server.New(network, trust).Run(""), server.ErrBadOption, network)
	}
	own := server.New(server.NetworkTcp, trust, server.WithTransport(newFakeTransport()))
	assert.ErrorContains(t, own.Run("x"), "WithTransport")
	assert.ErrorIs(t, server.New(server.NetworkTcp, server.WithTrustedProxies(netip.Prefix{})).Run("127.0.0.1:0"), server.ErrBadOption)
	newHost(unix, server.WithTrustedProxies()).start(t) // no proxies are none
}

// mountFrom mounts h in a web server of somebody else, where requests come from addr.
func mountFrom(t *testing.T, h *host, addr string) *httptest.Server {
	h.begin(t, t.Context())
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if addr != "" {
			r.RemoteAddr = addr
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(site.Close)
	return site
}

// ServeHTTP judges by the request's RemoteAddr.
func TestServeHTTPBehindProxies(t *testing.T) {
	for _, tt := range []struct {
		name, from, fields, want string // want "": 400; own: that of the socket
	}{
		{"trusted", "10.0.0.1:80", "X-Forwarded-For: 198.51.100.1, 203.0.113.7", "203.0.113.7:80"},
		{"trusted, with a port", "10.0.0.1:80", "X-Forwarded-For: [2001:db8::7]:4711", "[2001:db8::7]:4711"},
		{"trusted, v6", "[2001:db8:10::1]:80", "X-Forwarded-For: 203.0.113.7", "203.0.113.7:80"},
		{"trusted, mapped", "[::ffff:10.0.0.1]:80", "X-Forwarded-For: 203.0.113.7", "203.0.113.7:80"},
		{"trusted, nothing", "10.0.0.1:80", "X-Real-IP: 203.0.113.7", ""},
		{"trusted, rubbish", "10.0.0.1:80", "X-Forwarded-For: rubbish", ""},
		{"stranger", "11.0.0.1:80", "X-Forwarded-For: 203.0.113.7", own},
		{"stranger, v6 with a zone", "[fe80::1%eth0]:80", "X-Forwarded-For: 203.0.113.7", own},
		{"no address", "@", "X-Forwarded-For: 203.0.113.7", own},
		{"no port", "10.0.0.1", "X-Forwarded-For: 203.0.113.7", own},
	} {
		for engine, option := range engines() {
			t.Run(tt.name+" "+engine, func(t *testing.T) {
				h := newHost(ws, option, server.WithTrustedProxies(trustedProxies...))
				site := mountFrom(t, h, tt.from)
				p := conformance.NewPeer(t, conformance.DialRaw(t, ws, site.Listener.Addr().String()), ws)
				resp := p.Upgrade("/", tt.fields)
				if tt.want == "" {
					assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
					assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedProxy])
					return
				}
				require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
				want := tt.want
				if want == own {
					want = p.Conn.LocalAddr().String()
				}
				conn := await(t, h.opened, "opened event")
				assert.Equal(t, want, conn.RemoteAddr().String())
				assert.Equal(t, engine == "loops", conn.Loop() != nil)
			})
		}
	}
}

// An initializer of the user's own sees the client, as the handlers do.
func TestInitializerSeesTheClient(t *testing.T) {
	seen := make(chan string, 2)
	h := newHost(ws, server.WithTrustedProxies(trustedProxies...), server.WithWebsocketConnInitializer(
		func(_ http.ResponseWriter, r *http.Request, conn *websocket.Conn) error {
			seen <- r.RemoteAddr
			seen <- conn.RemoteAddr().String()
			return nil
		}))
	h.start(t)
	p := conformance.NewPeer(t, dialFrom(t, h.addr, theProxy), ws)
	require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/", "X-Forwarded-For: 203.0.113.7:4711").StatusCode)
	conn := await(t, h.opened, "opened event")
	assert.Equal(t, "203.0.113.7:4711", await(t, seen, "request's address"))
	assert.Equal(t, "203.0.113.7:4711", await(t, seen, "connection's address"))
	assert.Equal(t, "203.0.113.7:4711", conn.RemoteAddr().String())
	assert.IsType(t, &net.TCPAddr{}, conn.RemoteAddr())
}

// Clients of one address are told apart by the port of the proxy's connection.
func TestClientsOfOneAddress(t *testing.T) {
	h := newHost(ws, server.WithTrustedProxies(trustedProxies...)).start(t)
	ids := map[string]bool{}
	for range 3 {
		p := conformance.NewPeer(t, dialFrom(t, h.addr, theProxy), ws)
		require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/", "X-Forwarded-For: 203.0.113.7").StatusCode)
		conn := await(t, h.opened, "opened event")
		assert.Equal(t, "203.0.113.7", conn.GetIP())
		ids[conn.GetID()] = true
	}
	assert.Len(t, ids, 3)
}
