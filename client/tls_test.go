package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// certificate is a self-signed one for 127.0.0.1.
type certificate struct {
	pair              tls.Certificate
	certFile, keyFile string
}

func newCertificate(t testing.TB) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	c := &certificate{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem")}
	require.NoError(t, os.WriteFile(c.certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(c.keyFile, keyPEM, 0o600))
	c.pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	return c
}

// trusted is the configuration of a client that trusts nobody else.
func (c *certificate) trusted() *tls.Config {
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(c.pair.Certificate[0])
	if err != nil {
		panic(err)
	}
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots}
}

func (c *certificate) server(conn net.Conn) *tls.Conn {
	return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c.pair}})
}

func TestTLS(t *testing.T) {
	cert := newCertificate(t)
	for _, tt := range []struct {
		name    string
		network server.Network
		client  func(addr string, opts ...client.Option) *client.Client
	}{
		{"tls", server.NetworkTcp, client.NewTCP},
		{"wss", server.NetworkWebsocket, func(addr string, opts ...client.Option) *client.Client {
			return client.NewWebsocket("wss://"+addr+"/ws", opts...)
		}},
		{"ForURL", server.NetworkTcp, func(addr string, opts ...client.Option) *client.Client {
			c, err := client.ForURL("tls://"+addr, opts...)
			require.NoError(t, err)
			return c
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network, server.WithTLS(cert.certFile, cert.keyFile)).echo()
			c := tt.client(b.addr, client.WithTLS(cert.trusted()))
			l := observe(c)
			for range 2 { // a clone is as safe
				require.NoError(t, c.Run())
				c.Write([]byte("secret"))
				assert.Equal(t, "secret", await(t, l.packets, "echo").data)
				c.Close()
				assert.Nil(t, await(t, l.closed, "closed event"))
				assert.Nil(t, await(t, b.closed, "end"), "the server sees an orderly end")
			}

			require.NoError(t, c.Run())
			for range 3 {
				await(t, b.conns, "connection")
			}
			for _, conn := range b.GetOnlineAll() {
				conn.Close()
			}
			assert.Nil(t, await(t, l.closed, "closed event"), "the server's orderly end")

			// Another certificate, and none that the system knows.
			for _, config := range []*tls.Config{newCertificate(t).trusted(), nil} {
				stranger := tt.client(b.addr, client.WithTLS(config))
				var unknown x509.UnknownAuthorityError
				assert.ErrorAs(t, stranger.Run(), &unknown)
				assert.False(t, stranger.IsConnected())
			}
			name := cert.trusted()
			name.ServerName = "elsewhere.test"
			assert.ErrorContains(t, tt.client(b.addr, client.WithTLS(name)).Run(), "elsewhere.test")

			// Nothing is sent to a server that speaks no TLS.
			plain := serve(t, tt.network)
			assert.ErrorContains(t, tt.client(plain.addr, client.WithTLS(cert.trusted())).Run(), plain.addr)
			assert.Empty(t, plain.packets)
		})
	}
}
