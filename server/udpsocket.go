package server

import (
	"net"
	"net/netip"
	"runtime"

	"golang.org/x/net/ipv4"
)

// maxDatagram is the largest payload of a UDP datagram over IPv4: 65,535 bytes but for the heads of IP and UDP (RFC 768, RFC 791).
const maxDatagram = 65507

// udpBatch is how many datagrams one system call reads or writes.
const udpBatch = 32

// datagram is one that was read, or is to be written.
type datagram struct {
	peer udpPeer
	addr net.Addr // the peer, as somebody's socket calls it; nil on the system's
	data []byte
}

// udpPeer is where a datagram comes from: an address of IP, v4-mapped ones as IPv4, or the name that somebody's network gives it.
type udpPeer struct {
	ip   netip.AddrPort
	name string // "" where ip is valid
}

// udpSocket reads and writes datagrams. One goroutine reads, another one writes.
type udpSocket interface {
	// read waits for datagrams, which are valid until the next read.
	read() ([]datagram, error)
	// write sends up to udpBatch datagrams, and returns how many; an error is of the one behind those.
	write(list []datagram) (int, error)
}

// newUDPSocket returns what reads pc, whole datagrams up to size bytes: of larger ones size bytes.
func newUDPSocket(pc net.PacketConn, size int) udpSocket {
	udp, ok := pc.(*net.UDPConn)
	switch {
	case !ok:
		return &anySocket{pc: pc, buf: make([]byte, size)}
	case runtime.GOOS != "linux": // elsewhere golang.org/x/net has no calls for several datagrams, or nothing at all
		return &plainSocket{conn: udp, buf: make([]byte, size)}
	}
	return newBatchSocket(udp, size)
}

// batchSocket has one system call for many datagrams.
type batchSocket struct {
	conn *ipv4.PacketConn // which on Linux has addresses of both families
	in   []ipv4.Message
	got  []datagram
	out  []ipv4.Message
	to   []udpRoom // of out
}

// udpRoom is memory for an address.
type udpRoom struct {
	net.UDPAddr
	ip [16]byte
}

func newBatchSocket(conn *net.UDPConn, size int) *batchSocket {
	s := &batchSocket{
		conn: ipv4.NewPacketConn(conn), in: make([]ipv4.Message, udpBatch), got: make([]datagram, 0, udpBatch),
		out: make([]ipv4.Message, udpBatch), to: make([]udpRoom, udpBatch),
	}
	for i := range s.in {
		s.in[i].Buffers = [][]byte{make([]byte, size)}
		s.out[i].Buffers, s.out[i].Addr = make([][]byte, 1), &s.to[i].UDPAddr
	}
	return s
}

func (s *batchSocket) read() ([]datagram, error) {
	n, err := s.conn.ReadBatch(s.in, 0)
	if err != nil {
		return nil, err
	}
	s.got = s.got[:0]
	for i := range s.in[:n] {
		m := &s.in[i]
		s.got = append(s.got, datagram{peer: peerOf(m.Addr), data: m.Buffers[0][:m.N]})
		m.Addr = nil
	}
	return s.got, nil
}

func (s *batchSocket) write(list []datagram) (int, error) {
	for i := range list {
		room, ip := &s.to[i], list[i].peer.ip.Addr()
		if ip.Is4() {
			b := ip.As4()
			room.IP = append(room.ip[:0], b[:]...)
		} else {
			room.ip = ip.As16()
			room.IP = room.ip[:]
		}
		room.Port, room.Zone = int(list[i].peer.ip.Port()), ip.Zone()
		s.out[i].Buffers[0] = list[i].data
	}
	n, err := s.conn.WriteBatch(s.out[:len(list)], 0)
	for i := range list {
		s.out[i].Buffers[0] = nil
	}
	return max(n, 0), err
}

// plainSocket has a system call for each datagram.
type plainSocket struct {
	conn *net.UDPConn
	buf  []byte
	got  [1]datagram
}

func (s *plainSocket) read() ([]datagram, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(s.buf)
	if err != nil {
		return nil, err
	}
	s.got[0] = datagram{peer: udpPeer{ip: unmapped(from)}, data: s.buf[:n]}
	return s.got[:], nil
}

func (s *plainSocket) write(list []datagram) (int, error) {
	for i := range list {
		if _, err := s.conn.WriteToUDPAddrPort(list[i].data, list[i].peer.ip); err != nil {
			return i, err
		}
	}
	return len(list), nil
}

// anySocket is what somebody else has made.
type anySocket struct {
	pc  net.PacketConn
	buf []byte
	got [1]datagram
}

func (s *anySocket) read() ([]datagram, error) {
	n, from, err := s.pc.ReadFrom(s.buf)
	if err != nil {
		return nil, err
	}
	s.got[0] = datagram{peer: peerOf(from), addr: from, data: s.buf[:n]}
	return s.got[:], nil
}

func (s *anySocket) write(list []datagram) (int, error) {
	for i := range list {
		if _, err := s.pc.WriteTo(list[i].data, list[i].addr); err != nil {
			return i, err
		}
	}
	return len(list), nil
}

func peerOf(addr net.Addr) udpPeer {
	if a, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		if ip := a.AddrPort(); ip.IsValid() {
			return udpPeer{ip: unmapped(ip)}
		}
	}
	if addr == nil {
		return udpPeer{}
	}
	return udpPeer{name: addr.String()}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
