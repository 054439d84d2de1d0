package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, err = x509.ParseCertificate(a.sign(t, a.cert, key))
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	return der
}

// issue returns a certificate with a DNS name, an IP address or a URI.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2)}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		template.URIs = []*url.URL{u}
	} else {
		template.DNSNames = []string{name}
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(t, template, key)}, PrivateKey: key}
}

// A backend with TrustedCertificates takes links of gateways with a verified certificate of the right name, and no others; and a
// gateway links to no backend whose certificate has another name.
func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	const spiffe = "spiffe://game.test/gateway"
	for _, test := range []struct {
		name    string
		gateway []tls.Certificate
		backend string // the name in its certificate
		trusted []string
		auth    tls.ClientAuthType
		refused string // what refuses: "backend", "gateway" or "tls"; "" nobody
	}{
		{"the right DNS name", []tls.Certificate{ours.issue(t, "gate.game.test")}, "127.0.0.1", []string{"gate.game.test"}, tls.RequireAndVerifyClientCert, ""},
		{"the right URI", []tls.Certificate{ours.issue(t, spiffe)}, "127.0.0.1", []string{"other", spiffe}, tls.RequireAndVerifyClientCert, ""},
		{"the right IP address", []tls.Certificate{ours.issue(t, "127.0.0.1")}, "127.0.0.1", []string{"127.0.0.1"}, tls.VerifyClientCertIfGiven, ""},
		{"another name of the same authority", []tls.Certificate{ours.issue(t, "player.game.test")}, "127.0.0.1", []string{"gate.game.test"}, tls.RequireAndVerifyClientCert, "backend"},
		{"a name of which ours is a part", []tls.Certificate{ours.issue(t, "gate.game.test.evil")}, "127.0.0.1", []string{"gate.game.test"}, tls.RequireAndVerifyClientCert, "backend"},
		{"no certificate", nil, "127.0.0.1", []string{"gate.game.test"}, tls.VerifyClientCertIfGiven, "backend"},
		{"one that nobody has verified", []tls.Certificate{theirs.issue(t, "gate.game.test")}, "127.0.0.1", []string{"gate.game.test"}, tls.RequireAnyClientCert, "backend"},
		{"another authority's", []tls.Certificate{theirs.issue(t, "gate.game.test")}, "127.0.0.1", []string{"gate.game.test"}, tls.RequireAndVerifyClientCert, "tls"},
		{"a backend of another name", []tls.Certificate{ours.issue(t, "gate.game.test")}, "127.0.0.9", []string{"gate.game.test"}, tls.RequireAndVerifyClientCert, "gateway"},
	} {
		for _, network := range []server.Network{server.NetworkTcp, server.NetworkWebsocket} {
			t.Run(test.name+"/"+string(network), func(t *testing.T) {
				srv := server.New(network, server.WithLogger(quiet), server.WithTLSConfig(&tls.Config{
					Certificates: []tls.Certificate{ours.issue(t, test.backend)}, ClientAuth: test.auth, ClientCAs: ours.pool,
				}))
				backend := gateway.NewBackend(srv, gateway.TrustedCertificates(test.trusted...), gateway.WithBackendLogger(quiet))
				srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
				address := gwtest.Serve(t, srv, "127.0.0.1:0")
				config := client.WithTLS(&tls.Config{RootCAs: ours.pool, Certificates: test.gateway})
				link := client.NewTCP(address, config, client.WithLogger(quiet))
				if network == server.NetworkWebsocket {
					link = client.NewWebsocket("wss://"+address+"/", config, client.WithLogger(quiet))
				}
				e := gateway.NewEndpoint("game", link, gateway.WithEndpointReconnectInterval(time.Millisecond))
				g := newGateway(t, server.NetworkTcp, "game", gateway.NewStaticScanner(e), gateway.WithLogger(quiet))
				switch test.refused {
				case "":
					ready(t, 1, e)
					assert.Equal(t, "hello", string(newBot(t, server.NetworkTcp, g.address).ask(t, []byte("hello"))))
				case "backend":
					require.Eventually(t, func() bool { return backend.Stats().LinksRefused > 0 }, patience, time.Millisecond)
				default: // before there is a link
					require.Eventually(t, func() bool { return srv.Stats().Refusals[server.RefusedHandshake] > 0 }, patience, time.Millisecond)
					assert.Zero(t, backend.Stats().LinksRefused)
				}
				if test.refused != "" {
					assert.Zero(t, backend.Links())
					assert.Zero(t, e.GetState())
				}
			})
		}
	}
}

func TestTrustedCertificatesNeedANameAndTLS(t *testing.T) {
	srv := server.New(server.NetworkTcp)
	gateway.NewBackend(srv, gateway.TrustedCertificates())
	assert.ErrorIs(t, srv.Run("127.0.0.1:0"), gateway.ErrBadOption)

	h := newHost(t, server.NetworkTcp, nil, gateway.TrustedCertificates("gate.game.test"),
		gateway.TrustedGateways(netip.MustParsePrefix("127.0.0.0/8")), gateway.WithBackendLogger(quiet))
	newGateway(t, server.NetworkTcp, "game", gateway.NewStaticScanner(h.endpoint()), gateway.WithLogger(quiet))
	require.Eventually(t, func() bool { return h.Stats().LinksRefused > 0 }, patience, time.Millisecond, "an address is not enough")
	assert.Zero(t, h.Links())
}
