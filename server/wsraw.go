package server

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// rawConn is a PacketConn over WebSocket that reads and writes frames by itself: what the upgrade leaves behind, where neither
// compression nor the user's own code needs gorilla's connection.
type rawConn struct {
	net.Conn
	wsProtocol
	in       *frame.Inbound
	out      frame.Outbound
	deadline time.Duration // of silence
	closing  atomic.Bool   // we have said good-bye
}

var (
	_ PacketConn = (*rawConn)(nil)
	_ requester  = (*rawConn)(nil)
	_ eager      = (*rawConn)(nil)
	_ controller = (*rawConn)(nil)
	_ waiter     = (*rawConn)(nil)
	_ answerer   = (*rawConn)(nil)
	_ drainer    = (*rawConn)(nil)
	_ vetter     = (*rawConn)(nil)
)

func newRawConn(conn net.Conn, protocol wsProtocol, opts *options) *rawConn {
	c := &rawConn{
		Conn: conn, wsProtocol: protocol, in: frame.NewInbound(conn, 0), out: frame.NewOutbound(conn, &frames, opts.writeTimeout),
		deadline: opts.wsDeadline,
	}
	_ = conn.SetWriteDeadline(time.Time{}) // the upgrade's, which would end a write that doesn't wait; the first one tells if it can't
	c.patience(time.Now().Add(c.deadline / 2))
	return c
}

// patience lets reading wait until then. The next read tells if that can't be set: the connection was closed.
func (c *rawConn) patience(until time.Time) {
	if c.deadline > 0 && !c.closing.Load() {
		_ = c.SetReadDeadline(until)
		if c.closing.Load() { // Shutdown's own deadline may just have been overwritten
			_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
		}
	}
}

// ReadPacket is PacketConn's.
func (c *rawConn) ReadPacket() (int, []byte, error) {
	for {
		kind, packet, size, err := c.cut(c.in.Bytes())
		if err != nil {
			return 0, nil, err
		}
		if size == 0 {
			if err := c.fill(); err != nil {
				return 0, nil, err
			}
			continue
		}
		if kind != noPacket {
			packet = c.in.Copy(packet, size)
		}
		c.in.Consume(size)
		if kind != noPacket {
			return kind, packet, nil
		}
	}
}

// fill reads once. Meanwhile it looks after the client's silence.
func (c *rawConn) fill() error {
	for {
		err := c.in.Fill()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.closing.Load() {
			return c.explain(err)
		}
		again, err := c.silence(time.Now())
		if err != nil {
			return err
		}
		c.patience(again)
	}
}

func (c *rawConn) WritePackets(packets []*Packet) (int, error) { return c.out.Write(packets) }
func (c *rawConn) canWriteNow() bool                           { return c.out.Eager() }
func (c *rawConn) writeNow(packets []*Packet) (int, error)     { return c.out.WriteNow(packets) }
func (c *rawConn) onWait(wait func())                          { c.in.OnWait(wait) }
func (c *rawConn) buffered() int                               { return len(c.in.Bytes()) }
func (c *rawConn) widen(size int)                              { c.in.Widen(size) }

// Shutdown sends a close frame and gives the client a second to answer it.
func (c *rawConn) Shutdown(code int, reason string) error {
	c.closing.Store(true)
	err := c.say(c.farewell(code, reason))
	return errors.Join(err, c.SetReadDeadline(time.Now().Add(lingerTimeout)))
}

// answerClose answers the client's close frame.
func (c *rawConn) answerClose() { _ = c.say(c.reply()) } // the client may be gone

var errCutShort = errors.New("websocket: a frame was cut short")

// say writes a close frame. Nobody else writes any more.
func (c *rawConn) say(frame []byte) error {
	if c.out.Pending() {
		return errCutShort
	}
	if err := c.SetWriteDeadline(time.Now().Add(lingerTimeout)); err != nil {
		return err
	}
	_, err := c.Write(frame)
	return err
}

// NetConn returns the connection below: TLS where there is TLS.
func (c *rawConn) NetConn() net.Conn { return c.Conn }

// Drain reads what the client still sends and throws it away, until its end or for timeout.
func (c *rawConn) Drain(timeout time.Duration) { frame.Drain(c.Conn, timeout) }
