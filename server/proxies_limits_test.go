package server_test

import (
	"bufio"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// It is the clients' addresses that the limits count, however a proxy names them, and not the proxy's.
func TestLimitsCountNamedClients(t *testing.T) {
	for name, how := range map[string]struct{ network, header, field string }{
		"PROXY":                  {tcp, "PROXY TCP4 CLIENT 10.0.0.2 5 6\r\n", ""},
		"PROXY before a request": {ws, "PROXY TCP4 CLIENT 10.0.0.2 5 6\r\n", ""},
		"X-Forwarded-For":        {ws, "", "X-Forwarded-For: CLIENT"},
	} {
		for engine, option := range engines() {
			t.Run(name+" "+engine, func(t *testing.T) {
				h := serve(t, how.network, option, server.WithTrustedProxies(netip.MustParsePrefix("127.0.0.0/8")), server.WithMaxConnectionsPerAddress(2))
				come := func(client string) (*conformance.Peer, int) {
					conn := conformance.DialRaw(t, how.network, h.addr)
					_, err := io.WriteString(conn, strings.Replace(how.header, "CLIENT", client, 1))
					require.NoError(t, err)
					p := conformance.NewPeer(t, conn, how.network)
					if how.network == ws {
						var fields []string
						if how.field != "" {
							fields = []string{strings.Replace(how.field, "CLIENT", client, 1)}
						}
						return p, p.Upgrade("/", fields...).StatusCode
					}
					return p, 0
				}
				var in []*conformance.Peer
				for _, client := range []string{"1.1.1.1", "1.1.1.1", "2.2.2.2", "3.3.3.3"} {
					p, _ := come(client)
					await(t, h.opened, "opened event")
					in = append(in, p)
				}
				present, addresses, _ := server.Counted(h.Server)
				assert.Equal(t, 4, present)
				assert.Equal(t, 3, addresses)
				p, status := come("1.1.1.1")
				if how.network == ws {
					assert.Equal(t, http.StatusServiceUnavailable, status)
				}
				p.ExpectEnd()
				assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedAddress])
				if how.field != "" {
					conn := conformance.DialRaw(t, how.network, h.addr)
					_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: game.test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
					require.NoError(t, err)
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					require.NoError(t, err)
					assert.Equal(t, http.StatusBadRequest, resp.StatusCode, "no upgrade, and nothing left of it")
				}
				for _, p := range in {
					p.Cut()
				}
				countedOut(t, h)
			})
		}
	}
}
