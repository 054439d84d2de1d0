package frame

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	idleReadBuffer = 1 << 10  // held by a stream on which nothing larger is under way
	gatherLimit    = 64 << 10 // bytes gathered into one write, unless one packet alone is larger
)

// ErrPacketTimeout is returned by Reader.Next for a packet that was begun but not finished in time.
var ErrPacketTimeout = errors.New("packet not completed in time")

// Reader cuts packets from a connection. It belongs to one goroutine.
type Reader struct {
	conn    net.Conn
	framer  Framer
	limit   int           // largest packet, bytes
	timeout time.Duration // for the rest of a packet once it has begun; 0: none
	idle    int           // size of the buffer when nothing is under way

	buf        []byte
	start, end int  // buf[start:end] was read and not yet cut
	partial    bool // a deadline runs for the packet under way
}

// NewReader returns a Reader. A packet larger than limit ends the stream with a *TooLargeError. timeout is how long
// the rest of a packet may take once its first byte was read, which no traffic extends; 0 is for ever. size is what the
// read buffer holds while idle, 0 the default (1 KiB): it grows as bytes arrive, never because a length announces them.
func NewReader(conn net.Conn, framer Framer, limit int, timeout time.Duration, size int) *Reader {
	if size <= 0 {
		size = idleReadBuffer
	}
	return &Reader{conn: conn, framer: framer, limit: limit, timeout: timeout, idle: size}
}

// SetLimit changes the largest packet. It is for the goroutine that reads.
func (r *Reader) SetLimit(limit int) { r.limit = limit }

// Next returns the next packet, which belongs to the caller. It blocks until there is one. io.EOF means that the peer
// ended the stream between packets, io.ErrUnexpectedEOF that it did so inside one.
func (r *Reader) Next() ([]byte, error) {
	for {
		if r.end > r.start {
			packet, size, err := r.framer.Next(r.buf[r.start:r.end], r.limit)
			if err != nil {
				return nil, err
			}
			if size > 0 {
				owned := append(make([]byte, 0, len(packet)), packet...)
				r.consume(size)
				return owned, nil
			}
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// consume gives up size bytes, and with the last of them a buffer that has grown.
func (r *Reader) consume(size int) {
	r.start += size
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > r.idle {
			r.buf = nil
		}
	}
	if r.partial {
		r.partial = false
		r.setDeadline(time.Time{})
	}
}

// setDeadline leaves it to the next read to tell why a deadline can't be set: the connection was closed. A pipe refuses
// as soon as the other end is closed, and must not take the last packet with it.
func (r *Reader) setDeadline(t time.Time) { _ = r.conn.SetReadDeadline(t) }

// fill reads once.
func (r *Reader) fill() error {
	if r.buf == nil {
		r.buf = make([]byte, r.idle)
	}
	if r.start > 0 && r.end == len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	if r.end > r.start && !r.partial && r.timeout > 0 {
		r.partial = true
		r.setDeadline(time.Now().Add(r.timeout))
	}
	n, err := r.conn.Read(r.buf[r.end:])
	r.end += n
	switch {
	case n > 0 || err == nil:
		return nil
	case err == io.EOF && r.end > r.start:
		return io.ErrUnexpectedEOF
	case r.partial && isTimeout(err):
		return fmt.Errorf("%w: %d bytes of it after %v", ErrPacketTimeout, r.end-r.start, r.timeout)
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// WriteStream writes packets, marked by framer, with as few writes as gathering allows, each within timeout (0: none).
// It returns how many of them, from the first on, were handed to the kernel in full. A packet that the framer can't
// express is marked with Refuse, counts as dealt with, and disturbs no other.
func WriteStream(conn net.Conn, framer Framer, packets []*Packet, timeout time.Duration) (int, error) {
	pooled := gatherBuffers.Get().(*[]byte)
	buf := (*pooled)[:0]
	defer func() {
		if cap(buf) <= 2*gatherLimit {
			*pooled = buf
			gatherBuffers.Put(pooled)
		}
	}()
	for done := 0; done < len(packets); {
		buf = buf[:0]
		next := done
		for next < len(packets) && (len(buf) == 0 || len(buf)+len(packets[next].data) <= gatherLimit) {
			longer, err := appendPacket(buf, framer, packets[next])
			if err != nil {
				packets[next].Refuse(err)
			}
			buf = longer
			next++
		}
		n, err := writeAll(conn, buf, timeout)
		if err != nil {
			return done + wholePackets(framer, packets[done:next], n), err
		}
		done = next
	}
	return len(packets), nil
}

func writeAll(conn net.Conn, buf []byte, timeout time.Duration) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if timeout > 0 {
		if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return 0, err
		}
	}
	return conn.Write(buf)
}

// wholePackets returns how many of packets fit, marked, into the first n bytes. It runs once, when a write has failed.
func wholePackets(framer Framer, packets []*Packet, n int) int {
	var buf []byte
	for i, p := range packets {
		buf, _ = framer.Append(buf[:0], p.data)
		if n -= len(buf); n < 0 {
			return i
		}
	}
	return len(packets)
}

// Drain reads what comes in on conn and throws it away, until its end or for timeout.
func Drain(conn net.Conn, timeout time.Duration) {
	if conn.SetReadDeadline(time.Now().Add(timeout)) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
