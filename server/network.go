package server

import "slices"

// Network names the kind of connections a Server accepts.
type Network string

// The networks. NetworkNone listens nowhere: its Run only waits for Shutdown. NetworkKcp needs the transport of module transport/kcp, by
// WithTransport.
const (
	NetworkNone      Network = "none"
	NetworkTcp       Network = "tcp"
	NetworkTcp4      Network = "tcp4"
	NetworkTcp6      Network = "tcp6"
	NetworkUdp       Network = "udp"
	NetworkUdp4      Network = "udp4"
	NetworkUdp6      Network = "udp6"
	NetworkUnix      Network = "unix"
	NetworkWebsocket Network = "websocket"
	NetworkKcp       Network = "kcp"
)

var networks = []Network{
	NetworkNone, NetworkTcp, NetworkTcp4, NetworkTcp6, NetworkUdp, NetworkUdp4, NetworkUdp6,
	NetworkUnix, NetworkWebsocket, NetworkKcp,
}

// GetNetworks returns every network there is, in a slice of the caller's own.
func GetNetworks() []Network { return slices.Clone(networks) }

// IsSocket reports whether connections come over n: true for every network but NetworkNone.
func (n Network) IsSocket() bool { return n != NetworkNone && slices.Contains(networks, n) }

// datagrams reports whether a packet is a datagram.
func (n Network) datagrams() bool { return n == NetworkUdp || n == NetworkUdp4 || n == NetworkUdp6 }

// newTransport returns what accepts for the server's network.
func (s *Server) newTransport() (Transport, error) {
	s.mu.Lock()
	opts := s.opts
	s.mu.Unlock()
	if opts.transport != nil {
		return opts.transport, nil
	}
	switch s.network {
	case NetworkTcp, NetworkTcp4, NetworkTcp6, NetworkUnix:
		return newStreamTransport(s.network, opts), nil
	case NetworkWebsocket:
		return newWSTransport(opts), nil
	case NetworkUdp, NetworkUdp4, NetworkUdp6:
		return s.newUDPTransport(opts)
	}
	return nil, &NetworkError{Network: s.network}
}
