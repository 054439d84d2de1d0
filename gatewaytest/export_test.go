package gatewaytest

import (
	"net"

	"github.com/minotaur-gateway/gateway/client"
)

// NewCore returns the core of a client of addr.
func NewCore(n *Network, addr string) client.Core { return &core{network: n, addr: addr} }

// Pair returns the two ends of a connection, and what breaks it.
func Pair() (near, far net.Conn, cut func()) {
	a, b := newLink(address("near"), address("far"), func(*link) {})
	return a, b, a.link.cut
}
