package gateway_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
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

// certificate is for 127.0.0.1, and trusted by nobody but itself.
type certificate struct {
	certFile, keyFile string
	pair              tls.Certificate
	pool              *x509.CertPool
}

func newCertificate(t *testing.T) *certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	dir := t.TempDir()
	c := &certificate{certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	require.NoError(t, os.WriteFile(c.certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(c.keyFile, keyPEM, 0o600))
	c.pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	require.True(t, c.pool.AppendCertsFromPEM(certPEM))
	return c
}

// client is the configuration of a client that trusts nobody else.
func (c *certificate) client() *tls.Config { return &tls.Config{RootCAs: c.pool} }

// relay carries bytes between those who connect to it and target. One that has a certificate ends TLS on both sides.
type relay struct {
	address string
	target  string
	cert    *certificate // nil: TLS passes through

	running sync.WaitGroup
	mu      sync.Mutex // guards the rest
	open    []net.Conn
	closed  bool
}

func newRelay(t *testing.T, target string, cert *certificate) *relay {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{address: ln.Addr().String(), target: target, cert: cert}
	r.running.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.carry(near) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		r.closed = true
		for _, conn := range r.open {
			conn.Close()
		}
		r.mu.Unlock()
		r.running.Wait()
	})
	return r
}

func (r *relay) carry(near net.Conn) {
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		near.Close()
		return
	}
	if r.cert != nil {
		near = tls.Server(near, &tls.Config{Certificates: []tls.Certificate{r.cert.pair}})
		config := r.cert.client()
		config.ServerName = "127.0.0.1"
		far = tls.Client(far, config)
	}
	r.mu.Lock()
	r.open = append(r.open, near, far)
	closed := r.closed
	r.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			if !closed {
				io.Copy(way[0], way[1])
			}
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

// A man in the middle who has a certificate that the gateway takes can't carry the handshake over from one TLS connection to
// another: the proofs are about theirs. Who passes TLS on can.
func TestHandshakeIsNotRelayed(t *testing.T) {
	for _, network := range []server.Network{"tcp", "websocket"} {
		for _, ends := range []bool{true, false} {
			name := map[bool]string{true: "ends TLS", false: "passes TLS on"}[ends]
			t.Run(string(network)+", "+name, func(t *testing.T) {
				cert := newCertificate(t)
				h := newTLSHost(t, network, cert)
				var mine *certificate
				if ends {
					mine = cert // the worst case
				}
				r := newRelay(t, h.address, mine)
				options := []client.Option{client.WithTLS(cert.client())}
				cli := client.NewTCP(r.address, options...)
				if network == "websocket" {
					cli = client.NewWebsocket("wss://"+r.address+"/", options...)
				}
				e := gateway.NewEndpoint("game", cli, gateway.WithLinkSecret(secretA), gateway.WithEndpointReconnectInterval(10*time.Millisecond))
				log := &lines{}
				g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e), gateway.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
				if ends {
					require.Eventually(t, func() bool { return log.contains("wrong proof") }, patience, time.Millisecond)
					assert.Zero(t, g.Stats().LinksOpened)
					assert.Zero(t, h.Links())
					return
				}
				ready(t, 1, e)
				assert.Equal(t, "x", string(newBot(t, "tcp", g.address).ask(t, []byte("x"))))
				assert.False(t, log.contains("wrong proof"))
			})
		}
	}
}

func newTLSHost(t *testing.T, network server.Network, cert *certificate) *host {
	h := &host{srv: server.New(network, server.WithTLS(cert.certFile, cert.keyFile), server.WithLogger(quiet)), network: network}
	h.Backend = gateway.NewBackend(h.srv, gateway.WithSecret(secretA), gateway.WithBackendLogger(quiet))
	h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
	h.address = gwtest.Serve(t, h.srv, "127.0.0.1:0")
	return h
}

// tlsLink is a gateway's link over TLS, made by hand.
type tlsLink struct {
	*tls.Conn
	exporter []byte
}

func newTLSLink(t *testing.T, address string, cert *certificate) *tlsLink {
	conn, err := tls.Dial("tcp", address, cert.client())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial("EXPORTER-gateway.v1", nil, 32)
	require.NoError(t, err)
	return &tlsLink{conn, exporter}
}

func (l *tlsLink) control(t *testing.T, kind byte, body []byte) {
	packet := append([]byte{0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, kind}, body...)
	_, err := l.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...))
	require.NoError(t, err)
}

// next returns the kind and the body of the next control packet.
func (l *tlsLink) next() (kind byte, body []byte, err error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(l, size); err != nil {
		return 0, nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(l, packet); err != nil {
		return 0, nil, err
	}
	return packet[10], packet[11:], nil
}

// A backend takes only a proof that is about the TLS connection that it comes over, and gives one that is.
func TestProofsAreAboutTheirTLSConnection(t *testing.T) {
	cert := newCertificate(t)
	h := newTLSHost(t, "tcp", cert)
	elsewhere := newTLSLink(t, h.address, cert).exporter
	for name, test := range map[string]struct {
		exporter func(own []byte) []byte
		right    bool
	}{
		"its own":                 {func(own []byte) []byte { return own }, true},
		"another TLS connection":  {func([]byte) []byte { return elsewhere }, false},
		"one without TLS":         {func([]byte) []byte { return nil }, false},
		"its own, but the end":    {func(own []byte) []byte { return own[:31] }, false},
		"its own, but for a byte": {func(own []byte) []byte { return append(bytes.Clone(own[:31]), ^own[31]) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLink(t, h.address, cert)
			said := helloBody(1, 1, 9, secretA)
			l.control(t, hello, said)
			kind, w, err := l.next()
			require.NoError(t, err)
			require.Equal(t, byte(welcome), kind)
			assert.Equal(t, proofOf(secretA, "backend", said, w, l.exporter...), w[len(w)-32:])
			proof := proofOf(secretA, "gateway", said, w, test.exporter(l.exporter)...)
			l.control(t, auth, append([]byte{32}, proof...))
			kind, _, err = l.next()
			if test.right {
				require.NoError(t, err)
				assert.Equal(t, byte(readyState), kind)
			} else {
				assert.Error(t, err, "closed")
			}
		})
	}
	assert.EqualValues(t, 4, h.Stats().LinksRefused)
}
