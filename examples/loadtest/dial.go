package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	dialTimeout = 10 * time.Second
	dialsAtOnce = 64 // fewer than fill the queue of a listener
)

// dialer connects clients.
type dialer struct {
	cfg     *config
	address string // of the socket: host:port, resolved once, or a path
	spread  bool   // over loopback addresses, each of which has some 28,000 ports
	buffers sync.Pool
}

func newDialer(cfg *config) (*dialer, error) {
	d := &dialer{cfg: cfg, address: cfg.addr}
	switch cfg.network {
	case "unix":
		return d, nil
	case "ws":
		u, err := url.Parse(cfg.addr)
		if err != nil {
			return nil, err
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
		}
		d.address = net.JoinHostPort(u.Hostname(), port)
	}
	resolved, err := net.ResolveTCPAddr("tcp", d.address) // UDP has the same addresses
	if err != nil {
		return nil, fmt.Errorf("-addr %q: %w", cfg.addr, err)
	}
	d.address = resolved.String()
	d.spread = cfg.sources > 1 && resolved.IP.To4() != nil && resolved.IP.IsLoopback()
	return d, nil
}

// source returns the address that a client connects from, nil for any.
func (d *dialer) source(client int) net.Addr {
	if !d.spread {
		return nil
	}
	ip := net.IPv4(127, 0, 0, byte(1+client%d.cfg.sources))
	if d.cfg.network == "udp" {
		return &net.UDPAddr{IP: ip}
	}
	return &net.TCPAddr{IP: ip}
}

func (d *dialer) dial(ctx context.Context, client int) (*socket, error) {
	own := net.Dialer{Timeout: dialTimeout, LocalAddr: d.source(client)}
	if d.cfg.network == "ws" {
		return d.dialWebSocket(ctx, own)
	}
	conn, err := own.DialContext(ctx, d.cfg.network, d.address)
	if err != nil {
		return nil, err
	}
	if d.cfg.network == "udp" {
		return newDatagrams(conn, d.cfg.size), nil
	}
	return newStream(conn, d.cfg.size), nil
}

func (d *dialer) dialWebSocket(ctx context.Context, own net.Dialer) (*socket, error) {
	dialer := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return own.DialContext(ctx, network, d.address)
		},
		HandshakeTimeout: dialTimeout,
		ReadBufferSize:   4 << 10,
		WriteBufferPool:  &d.buffers, // gorilla writes the handshake and control frames only
	}
	ws, response, err := dialer.DialContext(ctx, d.cfg.addr, nil)
	if err != nil {
		if response != nil {
			return nil, fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, err
	}
	return newWebSocket(ws, d.cfg.size), nil
}

// dialAll connects all clients, and calls connected for each, on many goroutines. The first error ends it.
func (d *dialer) dialAll(ctx context.Context, connected func(client int, sock *socket)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var dialing sync.WaitGroup
	for range min(dialsAtOnce, d.cfg.clients) {
		dialing.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= d.cfg.clients {
					return
				}
				sock, err := d.dial(ctx, i)
				if err != nil {
					cancel(fmt.Errorf("connect client %d of %d: %w", i+1, d.cfg.clients, err))
					return
				}
				connected(i, sock)
			}
		})
	}
	dialing.Wait()
	return context.Cause(ctx)
}
