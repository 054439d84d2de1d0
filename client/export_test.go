package client

import (
	"context"
	"net"
	"net/http"
	"net/url"
)

// DialFunc opens the socket of a client.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// WithDialFunc wraps how a client opens its socket.
func WithDialFunc(wrap func(dial DialFunc) DialFunc) Option {
	return func(o *options) { o.dial = wrap(o.dial) }
}

// WithProxy has WebSockets go over a proxy.
func WithProxy(proxy *url.URL) Option {
	return func(o *options) { o.proxy = http.ProxyURL(proxy) }
}

// Asking returns conn as it is while a WebSocket is asked for on it, and what gives what was read and not handed out.
func Asking(conn net.Conn) (asking net.Conn, early func() []byte) {
	u := newUpgradeConn(conn, nil)
	return u, u.early
}
