package conformance

import (
	"bufio"
	"net"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

// UDP is the suite's network of datagrams: over loopback they come in order, and as many as the socket's buffer holds.
const UDP = "udp"

const (
	largestDatagram = 65507 // over IPv4
	datagramLimit   = largestDatagram - 1000
)

func udpNetwork() Network {
	return Network{
		Name: UDP, Server: serverOf(UDP), Client: client.NewUDP, Address: func(dir string) string { return address(UDP, dir) },
		Dial: func(addr string) (net.Conn, error) { return net.Dial(UDP, addr) },
		Listen: func(addr string) (net.Listener, error) {
			pc, err := net.ListenPacket(UDP, addr)
			return &datagramListener{PacketConn: pc}, err
		},
		Wire:  func(bool) Wire { return datagramWire{} },
		Lacks: Pieces | Ends | Farewells | Openings, Largest: datagramLimit, Written: largestDatagram,
	}
}

// datagramWire is a datagram for each packet.
type datagramWire struct{}

func (datagramWire) Packet(_ int, data []byte) []byte { return data }
func (datagramWire) Announce(uint64) []byte           { return nil }
func (datagramWire) Goodbye() []byte                  { return nil }

// Read reads past the buffer of r, which is smaller than what it is given.
func (datagramWire) Read(r *bufio.Reader) (int, []byte, error) {
	data := make([]byte, 1<<16)
	n, err := r.Read(data)
	return None, data[:n], err
}

// datagramListener accepts one connection, by its first datagram, on the socket that listens.
type datagramListener struct {
	net.PacketConn
	accepted bool
}

func (l *datagramListener) Accept() (net.Conn, error) {
	first := make([]byte, 1<<16)
	n, from, err := l.ReadFrom(first)
	if err != nil {
		return nil, err
	}
	l.accepted = true
	return &datagramConn{PacketConn: l.PacketConn, peer: from, first: first[:n]}, l.SetDeadline(time.Time{})
}

func (l *datagramListener) Addr() net.Addr { return l.LocalAddr() }

// Close leaves the socket to the connection, if there is one.
func (l *datagramListener) Close() error {
	if l.accepted {
		return nil
	}
	return l.PacketConn.Close()
}

// datagramConn is a listening socket with one peer.
type datagramConn struct {
	net.PacketConn
	peer  net.Addr
	first []byte // was read already
}

func (c *datagramConn) Read(p []byte) (int, error) {
	if first := c.first; first != nil {
		c.first = nil
		return copy(p, first), nil
	}
	n, _, err := c.ReadFrom(p)
	return n, err
}

func (c *datagramConn) Write(p []byte) (int, error) { return c.WriteTo(p, c.peer) }
func (c *datagramConn) RemoteAddr() net.Addr        { return c.peer }
