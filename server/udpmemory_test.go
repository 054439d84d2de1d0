package server_test

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// packets is a socket in memory, which a server reads and writes. It may be in a synctest bubble.
type packets struct {
	in     chan inbound
	out    chan inbound // what the server has sent
	closed chan struct{}
	once   sync.Once
	// refuse, if there is one, is asked about each write.
	refuse func(data []byte, to net.Addr) error
}

// inbound is a datagram, or an error of reading.
type inbound struct {
	addr net.Addr
	data string
	err  error
}

func newPackets() *packets {
	return &packets{in: make(chan inbound), out: make(chan inbound, 1<<14), closed: make(chan struct{})}
}

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-p.in:
		return copy(b, d.data), d.addr, d.err
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *packets) WriteTo(b []byte, addr net.Addr) (int, error) {
	if p.refuse != nil {
		if err := p.refuse(b, addr); err != nil {
			return 0, err
		}
	}
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	case p.out <- inbound{addr: addr, data: string(b)}:
		return len(b), nil
	}
}

func (p *packets) Close() error                     { p.once.Do(func() { close(p.closed) }); return nil }
func (p *packets) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }
func (p *packets) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (p *packets) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (p *packets) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// send is a datagram from an address, which the server has read when the next one is sent.
func (p *packets) send(from, data string) {
	p.sendFrom(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)), data)
}

func (p *packets) sendFrom(from net.Addr, data string) { p.in <- inbound{addr: from, data: data} }

// servePackets runs a UDP server on a socket in memory until the test's end.
func servePackets(t testing.TB, opts ...server.Option) (*host, *packets) {
	t.Helper()
	h, p := newHost(udp, opts...), newPackets()
	h.serveOn(t, p)
	return h, p
}

// serveOn runs the server on pc until the test's end.
func (h *host) serveOn(t testing.TB, pc net.PacketConn) {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan error, 1)
	h.RegMessageReadyEvent(func(*server.Server) { close(ready) })
	go func() { ended <- h.ServePacket(pc) }()
	t.Cleanup(func() {
		h.Shutdown()
		require.NoError(t, <-ended)
	})
	<-ready
}
