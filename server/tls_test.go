package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// certificate writes a new self-signed certificate for game.test and its key into files, and returns them and the pool
// that trusts it.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	return certFile, keyFile, renew(t, certFile, keyFile)
}

// renew writes another certificate into the files, and returns the pool that trusts it.
func renew(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"game.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return pool
}

// A certificate that was renewed is served from then on, and a broken one changes nothing.
func TestCertificateReloads(t *testing.T) {
	for _, network := range []string{ws, tcp} {
		synctest.Test(t, func(t *testing.T) {
			certFile, keyFile, first := certificate(t)
			l, logger := newLogs()
			h := serveMemory(t, network, logger, server.WithTLS(certFile, keyFile))
			shake := func(pool *x509.CertPool) error {
				conn := tls.Client(h.pipes.dial(), &tls.Config{RootCAs: pool, ServerName: "game.test"})
				defer conn.NetConn().Close()
				return conn.HandshakeContext(t.Context())
			}
			require.NoError(t, shake(first))
			second := renew(t, certFile, keyFile)
			time.Sleep(time.Second)
			require.NoError(t, shake(second))
			assert.Error(t, shake(first))
			l.expect(t, slog.LevelInfo, "certificate loaded")

			require.NoError(t, os.WriteFile(keyFile, []byte("half of a k"), 0o600))
			time.Sleep(time.Second)
			assert.NoError(t, shake(second))
			assert.Contains(t, l.expect(t, slog.LevelError, "certificate not renewed"), keyFile)
			require.NoError(t, os.Remove(certFile))
			time.Sleep(time.Second)
			assert.NoError(t, shake(second))
			l.expect(t, slog.LevelError, "certificate not renewed")

			third := renew(t, certFile, keyFile)
			time.Sleep(time.Second)
			assert.NoError(t, shake(third))
		})
	}
}

// WithTLSConfig asks for clients' certificates.
func TestTLSConfig(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	own, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	demanding := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	for _, network := range []string{ws, tcp} {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network, server.WithTLSConfig(demanding)).echo()
			p := conformance.DialTLS(t, network, h.addr, "/", &tls.Config{RootCAs: pool, ServerName: "game.test", Certificates: []tls.Certificate{own}})
			h.talk(t, p)
			conn := await(t, h.opened, "opened event")
			state, ok := conn.TLS()
			require.True(t, ok)
			assert.Equal(t, []string{"game.test"}, state.VerifiedChains[0][0].DNSNames)

			stranger := tls.Client(conformance.DialRaw(t, network, h.addr), &tls.Config{RootCAs: pool, ServerName: "game.test"})
			_, _ = stranger.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // in TLS 1.3 the server's word comes after the client's handshake
			_, err := stranger.Read(make([]byte, 1))
			assert.ErrorContains(t, err, "certificate required")
			assert.Equal(t, 1, h.GetOnlineCount())
		})
	}
	h := serve(t, tcp)
	_, conn := h.dial(t)
	_, ok := conn.TLS()
	assert.False(t, ok)
}

func TestBadTLSConfig(t *testing.T) {
	for name, option := range map[string]server.Option{
		"nil": server.WithTLSConfig(nil), "no certificate": server.WithTLSConfig(&tls.Config{}), "no file": server.WithTLS("/nowhere/c", "/nowhere/k"),
	} {
		t.Run(name, func(t *testing.T) {
			assert.ErrorIs(t, newHost(tcp, option).Run("127.0.0.1:0"), server.ErrBadOption)
			ln := listener(t, tcp)
			assert.ErrorIs(t, newHost(tcp, option).Serve(ln), server.ErrBadOption)
		})
	}
}
