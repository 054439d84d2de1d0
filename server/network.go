package server

import "slices"

// Network names the kind of connections a Server accepts.
type Network string

// The networks. NetworkNone listens nowhere: its Run only waits for Shutdown.
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

// newTransport returns what accepts for the server's network, nil where there is nothing to accept.
func (s *Server) newTransport() (Transport, error) {
	if s.opts.transport != nil {
		return s.opts.transport, nil
	}
	switch s.network {
	case NetworkNone:
		return nil, nil
	case NetworkTcp, NetworkTcp4, NetworkTcp6, NetworkUnix:
		return newStreamTransport(s.network, s.opts)
	case NetworkWebsocket:
		return newWSTransport(s.opts)
	}
	return nil, &NetworkError{Network: s.network}
}
