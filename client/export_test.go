package client

import (
	"context"
	"net"
)

// DialFunc opens the socket of a client.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// WithDialFunc wraps how a client opens its socket.
func WithDialFunc(wrap func(dial DialFunc) DialFunc) Option {
	return func(o *options) { o.dial = wrap(o.dial) }
}
