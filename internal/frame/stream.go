package frame

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ErrPacketTimeout is returned by Reader.Next for a packet that was begun but not finished in time.
var ErrPacketTimeout = errors.New("packet not completed in time")

// Reader cuts packets from a connection. It belongs to one goroutine.
type Reader struct {
	*Inbound
	framer  Framer
	limit   int           // largest packet, bytes
	timeout time.Duration // for the rest of a packet once it has begun; 0: none
	partial bool          // a deadline runs for the packet under way
}

// NewReader returns a Reader. A packet larger than limit ends the stream with a *TooLargeError. timeout is how long
// the rest of a packet may take once its first byte was read, which no traffic extends; 0 is for ever. size is NewInbound's.
func NewReader(conn net.Conn, framer Framer, limit int, timeout time.Duration, size int) *Reader {
	return &Reader{Inbound: NewInbound(conn, size), framer: framer, limit: limit, timeout: timeout}
}

// SetLimit changes the largest packet. It is for the goroutine that reads.
func (r *Reader) SetLimit(limit int) { r.limit = limit }

// Next returns the next packet, which belongs to the caller. It blocks until there is one. io.EOF means that the peer
// ended the stream between packets, io.ErrUnexpectedEOF that it did so inside one.
func (r *Reader) Next() ([]byte, error) {
	for {
		if r.end > r.start {
			packet, size, err := r.framer.Next(r.Bytes(), r.limit)
			if err != nil {
				return nil, err
			}
			if size > 0 {
				owned := r.CopyOut(packet)
				r.Consume(size)
				if r.partial {
					r.partial = false
					r.setDeadline(time.Time{})
				}
				return owned, nil
			}
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// setDeadline leaves it to the next read to tell why a deadline can't be set: the connection was closed. A pipe refuses
// as soon as the other end is closed, and must not take the last packet with it.
func (r *Reader) setDeadline(t time.Time) { _ = r.conn.SetReadDeadline(t) }

// fill reads once.
func (r *Reader) fill() error {
	if r.end > r.start && !r.partial && r.timeout > 0 {
		r.partial = true
		r.setDeadline(time.Now().Add(r.timeout))
	}
	err := r.Fill()
	if err != nil && r.partial && isTimeout(err) {
		return fmt.Errorf("%w: %d bytes of it after %v", ErrPacketTimeout, r.end-r.start, r.timeout)
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// WriteStream writes packets, marked by framer, to conn: see Outbound.Write.
func WriteStream(conn net.Conn, framer Framer, packets []*Packet, timeout time.Duration) (int, error) {
	o := Outbound{conn: conn, timeout: timeout}
	return o.write(Style{Framer: framer}, packets, o.writeWaiting)
}

// Drain reads what comes in on conn and throws it away, until its end or for timeout.
func Drain(conn net.Conn, timeout time.Duration) {
	if conn.SetReadDeadline(time.Now().Add(timeout)) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
