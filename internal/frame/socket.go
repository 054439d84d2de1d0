package frame

import (
	"net"
	"syscall"
)

// Socket reads and writes a plain socket, TCP or Unix, without waiting in a buffer: a read takes one only while there is something
// to read, and a write hands over what the kernel takes right now. One goroutine at a time reads, and one writes.
type Socket struct {
	raw            syscall.RawConn
	reader, writer func(fd uintptr) bool // made once

	room    Room // arguments and results of the two
	readN   int
	readErr error

	out      []byte
	writeN   int
	writeErr error
}

// Room is where a Socket reads to.
type Room interface {
	// Take returns where to read to, which isn't empty.
	Take() []byte
	// Idle is called before waiting, with nothing read.
	Idle()
}

// SocketOf returns the socket below conn, nil where that is no plain socket, or the system has no such way.
func SocketOf(conn net.Conn) *Socket {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	if !socketsSupported {
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{raw: raw}
	s.reader, s.writer = s.readOnce, s.writeOnce
	return s
}

// Read waits until something can be read, and reads once, to room. The end is io.EOF. The connection's read deadline holds.
func (s *Socket) Read(room Room) (n int, err error) {
	s.room, s.readN, s.readErr = room, 0, nil
	if err = s.raw.Read(s.reader); err == nil {
		err = s.readErr
	}
	return s.readN, err
}

// WriteNow hands over as much of p as the kernel takes without waiting: less than all of it, and no error, if it takes no more.
func (s *Socket) WriteNow(p []byte) (n int, err error) {
	s.out, s.writeN, s.writeErr = p, 0, nil
	if err = s.raw.Write(s.writer); err == nil {
		err = s.writeErr
	}
	s.out = nil
	return s.writeN, err
}
