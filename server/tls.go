package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// WithTLS serves TLS with the certificate and key in the two PEM files. Run loads them, and they are loaded anew, for connections
// from then on, when one of them has changed, as it does when a certificate is renewed: that is looked after once a second at the
// most, when somebody connects. Files that can't be loaded then change nothing, but for a word in the log.
func WithTLS(certFile, keyFile string) Option {
	return func(s *Server) { s.opts.certFile, s.opts.keyFile = certFile, keyFile }
}

// WithTLSConfig serves TLS by a copy of config: its ClientAuth and ClientCAs ask clients, or gateways' links, for certificates (mutual
// TLS; see gateway.TrustedCertificates), its GetCertificate and GetConfigForClient are asked for each connection. The certificate may be
// WithTLS's instead. On WebSockets NextProtos is always http/1.1. nil, or a config without any certificate, is an error of Run.
func WithTLSConfig(config *tls.Config) Option {
	return func(s *Server) {
		if s.opts.tls = config; config == nil {
			s.opts.refuse("no tls config")
		}
	}
}

// secured reports whether the options ask for TLS.
func (o *options) secured() bool { return o.tls != nil || o.certFile != "" || o.keyFile != "" }

// tlsConfig returns what the options say about TLS, nil where they ask for none.
func (o *options) tlsConfig(network Network) (*tls.Config, error) {
	if !o.secured() {
		return nil, nil
	}
	config := o.tls.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if o.certFile != "" || o.keyFile != "" {
		files := &certificateFiles{cert: o.certFile, key: o.keyFile, logger: o.logger}
		if err := files.load(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadOption, err)
		}
		config.GetCertificate = files.get
	}
	if len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		return nil, fmt.Errorf("%w: a tls config without certificate", ErrBadOption)
	}
	if network == NetworkWebsocket {
		config.NextProtos = []string{"http/1.1"}
	}
	return config, nil
}

// TLS returns what is known of the connection's TLS, the certificate of the client for one, and false where there is none: a client
// behind a gateway, or a proxy that ends TLS, has none here. What it returns must not be changed.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	n, ok := c.c.pc.(interface{ NetConn() net.Conn })
	if !ok {
		return tls.ConnectionState{}, false
	}
	secure, ok := bare(n.NetConn()).(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return secure.ConnectionState(), true
}

// certificateInterval is how often the files of a certificate are looked at, at the most.
const certificateInterval = time.Second

// certificateFiles are a certificate in two files, which may be replaced at any time.
type certificateFiles struct {
	cert, key string // static, as is the next
	logger    *slog.Logger

	mu      sync.Mutex // guards the rest
	current *tls.Certificate
	seen    [2]fileState // of the files that were loaded last, or that failed
	looked  time.Time
}

// fileState changes when a file does.
type fileState struct {
	modified time.Time
	size     int64
}

func (c *certificateFiles) state() (s [2]fileState, err error) {
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = fileState{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (c *certificateFiles) load() error {
	state, err := c.state()
	if err == nil {
		var cert tls.Certificate
		if cert, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.current = &cert
		}
	}
	c.seen = state
	if err != nil {
		return fmt.Errorf("certificate %q, key %q: %w", c.cert, c.key, err)
	}
	return nil
}

// get is tls.Config.GetCertificate.
func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificateInterval {
		c.looked = now
		if state, err := c.state(); err != nil || !slices.Equal(state[:], c.seen[:]) {
			c.reload()
		}
	}
	return c.current, nil
}

func (c *certificateFiles) reload() {
	if err := c.load(); err != nil {
		c.logger.Error("certificate not renewed", "err", err)
		return
	}
	c.logger.Info("certificate loaded", "certificate", c.cert)
}
