package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/client"
)

// slack is how much longer than the packets sent a reply may be without costing a stream, as when an endpoint puts its
// name before it.
const slack = 256

// socket carries packets over a connection. One goroutine reads, and one at a time writes.
type socket struct {
	conn      net.Conn
	mark      func(dst, packet []byte) []byte // appends a packet as it is written
	next      func() ([]byte, error)          // returns the next packet, valid until the call after
	datagrams bool                            // each of size bytes, and some may be lost
	size      int
	bye       func() // says good-bye; may be nil
}

// write writes packets that were marked, in one call where the network has no borders between them.
func (s *socket) write(out []byte, timeout time.Duration) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	step := len(out)
	if s.datagrams {
		step = s.size
	}
	var errs error
	for ; len(out) > 0; out = out[step:] {
		if _, err := s.conn.Write(out[:step]); err != nil {
			errs = err
		}
	}
	return errs
}

func (s *socket) close() {
	if s.bye != nil {
		s.bye()
	}
	s.conn.Close()
}

// newStream returns a socket that puts a 4-byte big-endian length before each packet, as the library does.
func newStream(conn net.Conn, size int) *socket {
	framer := client.LengthFramer(4, nil)
	reader := bufio.NewReaderSize(conn, max(4<<10, size+slack+4))
	taken := 0 // bytes of the packet returned last
	return &socket{
		conn: conn, size: size,
		mark: func(dst, packet []byte) []byte {
			dst, _ = framer.Append(dst, packet) // which fails with packets of 4 GiB only
			return dst
		},
		next: func() ([]byte, error) {
			_, _ = reader.Discard(taken) // it is in the buffer
			taken = 0
			for {
				buf, _ := reader.Peek(reader.Buffered()) // as is this
				packet, n, err := framer.Next(buf, size+slack)
				if err != nil {
					return nil, err
				}
				if taken = n; n > 0 {
					return packet, nil
				}
				if _, err := reader.Peek(len(buf) + 1); err != nil {
					return nil, err
				}
			}
		},
	}
}

// newDatagrams returns a socket each of whose packets is a datagram.
func newDatagrams(conn net.Conn, size int) *socket {
	buf := make([]byte, size+slack)
	return &socket{
		conn: conn, size: size, datagrams: true,
		mark: func(dst, packet []byte) []byte { return append(dst, packet...) },
		next: func() ([]byte, error) {
			n, err := conn.Read(buf)
			return buf[:n], err
		},
	}
}

// newWebSocket returns a socket of binary messages. It reads by means of ws, which answers pings, and writes the frames
// itself, many at once: Write calls of a net.Conn don't mix.
func newWebSocket(ws *websocket.Conn, size int) *socket {
	conn := ws.NetConn()
	buf := make([]byte, size+slack)
	return &socket{
		conn: conn, size: size, mark: appendFrame,
		next: func() ([]byte, error) {
			_, message, err := ws.NextReader()
			if err != nil {
				return nil, err
			}
			n, err := io.ReadFull(message, buf)
			if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF { // its end; that of the connection is another error
				return buf[:n], nil
			}
			return nil, fmt.Errorf("message cut short: %w", err)
		},
		bye: func() {
			// If that fails, it is closed all the same.
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		},
	}
}

// appendFrame appends a binary message as a client sends it (RFC 6455, section 5.2). The masking key is 0, which leaves
// the payload as it is: masks are against pages in browsers (section 10.3).
func appendFrame(dst, packet []byte) []byte {
	const final, binaryMessage, masked = 0x80, websocket.BinaryMessage, 0x80
	switch n := len(packet); {
	case n < 126:
		dst = append(dst, final|binaryMessage, masked|byte(n))
	case n < 1<<16:
		dst = append(dst, final|binaryMessage, masked|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, final|binaryMessage, masked|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, packet...)
}
