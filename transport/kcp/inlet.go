package kcp

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// inletSize is how many datagrams may wait for a session to look at them; KCP sends again what is dropped beyond that.
const inletSize = 128

// datagram is one that was received.
type datagram struct {
	n     int
	bytes [maxSize]byte
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

// inlet is the packet connection that one session of a server has to itself: its datagrams out of the socket that all share.
type inlet struct {
	socket net.PacketConn // static, as are the next three
	remote *net.UDPAddr
	conv   uint32
	queue  chan *datagram

	established atomic.Bool // its client has proved where it is
	closed      chan struct{}
	once        sync.Once
}

var _ net.PacketConn = (*inlet)(nil)

func newInlet(socket net.PacketConn, remote *net.UDPAddr, conv uint32) *inlet {
	return &inlet{socket: socket, remote: remote, conv: conv, queue: make(chan *datagram, inletSize), closed: make(chan struct{})}
}

// put queues a datagram, and drops it where there is no room.
func (i *inlet) put(b []byte) {
	d := datagrams.Get().(*datagram)
	d.n = copy(d.bytes[:], b)
	select {
	case i.queue <- d:
	default:
		datagrams.Put(d)
	}
}

func (i *inlet) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-i.queue:
		n := copy(p, d.bytes[:d.n])
		datagrams.Put(d)
		return n, i.remote, nil
	case <-i.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo never fails: a datagram that the socket doesn't take is lost like any other, while an error would end the session.
func (i *inlet) WriteTo(p []byte, addr net.Addr) (int, error) {
	_, _ = i.socket.WriteTo(p, addr)
	return len(p), nil
}

// Close makes ReadFrom return.
func (i *inlet) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

func (i *inlet) LocalAddr() net.Addr { return i.socket.LocalAddr() }

// Deadlines are not used on an inlet.
func (i *inlet) SetDeadline(time.Time) error      { return nil }
func (i *inlet) SetReadDeadline(time.Time) error  { return nil }
func (i *inlet) SetWriteDeadline(time.Time) error { return nil }
