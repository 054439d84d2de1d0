package server_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// farListener accepts connections as if they came from another machine.
type farListener struct {
	net.Listener
	from *net.TCPAddr
}

type farConn struct {
	net.Conn
	from *net.TCPAddr
}

func (c farConn) RemoteAddr() net.Addr { return c.from }

func (l farListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return farConn{conn, l.from}, nil
}

// This machine is trusted with more than others are (see gateway.TrustedGateways), and so nobody else's proxy can name it.
func TestLoopbackOfAnotherMachine(t *testing.T) {
	for name, c := range map[string]struct{ network, header, field, want string }{
		"PROXY":                           {tcp, "PROXY TCP4 127.0.0.1 10.0.0.2 5 6\r\n", "", "10.0.0.1:7"},
		"PROXY, IPv6":                     {tcp, "PROXY TCP6 ::1 2001:db8::1 5 6\r\n", "", "10.0.0.1:7"},
		"PROXY, mapped":                   {tcp, "PROXY TCP6 ::ffff:127.0.0.1 2001:db8::1 5 6\r\n", "", "10.0.0.1:7"},
		"PROXY, another client":           {tcp, "PROXY TCP4 1.2.3.4 10.0.0.2 5 6\r\n", "", "1.2.3.4:5"},
		"PROXY before a request":          {ws, "PROXY TCP4 127.0.0.1 10.0.0.2 5 6\r\n", "1.2.3.4", "10.0.0.1:7"},
		"X-Forwarded-For":                 {ws, "", "127.0.0.1", "10.0.0.1:7"},
		"X-Forwarded-For, IPv6":           {ws, "", "[::1]:5", "10.0.0.1:7"},
		"X-Forwarded-For, another client": {ws, "", "127.0.0.1, 1.2.3.4", "1.2.3.4:7"},
	} {
		t.Run(name, func(t *testing.T) {
			h, ln := newHost(c.network, server.WithTrustedProxies(netip.MustParsePrefix("10.0.0.0/8"))), listener(t, c.network)
			ended := make(chan error, 1)
			go func() { ended <- h.Serve(farListener{ln, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7}}) }()
			conn := conformance.DialRaw(t, c.network, ln.Addr().String())
			_, err := io.WriteString(conn, c.header)
			require.NoError(t, err)
			if c.network == ws {
				p := conformance.NewPeer(t, conn, ws)
				require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/", "X-Forwarded-For: "+c.field).StatusCode)
			}
			assert.Equal(t, c.want, await(t, h.opened, "opened event").RemoteAddr().String())
			conn.Close()
			h.Shutdown()
			assert.NoError(t, await(t, ended, "end of Serve"))
		})
	}
}
