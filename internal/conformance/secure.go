package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// identity is a certificate for 127.0.0.1, and those who trust it.
type identity struct{ served, trusting *tls.Config }

func newIdentity() identity {
	borrowed := httptest.NewTLSServer(nil)
	defer borrowed.Close()
	pool := x509.NewCertPool()
	pool.AddCert(borrowed.Certificate())
	return identity{
		served:   &tls.Config{Certificates: borrowed.TLS.Certificates},
		trusting: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"},
	}
}

// over is n over TLS.
func (n Network) over(id identity) Network {
	secure := n
	secure.Name = n.Name + " over tls"
	secure.Server = func(opts ...server.Option) *server.Server {
		return n.Server(append(opts, server.WithTLSConfig(id.served))...)
	}
	secure.Client = func(addr string, opts ...client.Option) *client.Client {
		opts = append(opts, client.WithTLS(id.trusting))
		if n.Name == WebSocket {
			return client.NewWebsocket("wss://"+addr+"/", opts...)
		}
		return n.Client(addr, opts...)
	}
	secure.Dial = func(addr string) (net.Conn, error) {
		conn, err := n.Dial(addr)
		if err != nil {
			return nil, err
		}
		return shaken(tls.Client(conn, id.trusting))
	}
	secure.Listen = func(addr string) (net.Listener, error) {
		ln, err := n.Listen(addr)
		if err != nil {
			return nil, err
		}
		return &secureListener{ln, id.served}, nil
	}
	return secure
}

// secureListener is a listener over TLS that still has a deadline.
type secureListener struct {
	net.Listener
	config *tls.Config
}

func (l *secureListener) Accept() (net.Conn, error) {
	conn, err := accept(l.Listener)
	if err != nil {
		return nil, err
	}
	return shaken(tls.Server(conn, l.config))
}

// shaken returns conn after its handshake, without which the other end doesn't get on.
func shaken(conn *tls.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return conn, conn.HandshakeContext(ctx)
}
