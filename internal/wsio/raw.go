package wsio

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Raw is a WebSocket connection that cuts and makes frames by itself: one goroutine reads, one at a time writes, any closes.
type Raw struct {
	net.Conn
	protocol *Protocol
	in       *frame.Inbound
	out      frame.Outbound
	closing  atomic.Bool // we have said good-bye
}

// Init makes c, which is nobody's yet, one end of conn, whose peer may be silent for deadline (0: for ever). size is frame.NewInbound's.
func (c *Raw) Init(conn net.Conn, protocol *Protocol, deadline time.Duration, size int, out frame.Outbound) {
	c.Conn, c.protocol, c.in, c.out = conn, protocol, frame.NewInbound(conn, size), out
	_ = conn.SetWriteDeadline(time.Time{}) // the upgrade's, which would end a write that doesn't wait; the first one tells if it can't
	if deadline > 0 {
		c.patience(deadline / 2)
	}
}

// Put puts bytes that were read with the upgrade before what will be read.
func (c *Raw) Put(p []byte) { c.in.Put(p) }

// OnWait has wait called, on the reading goroutine, before each read from the network.
func (c *Raw) OnWait(wait func()) { c.in.OnWait(wait) }

// Buffered returns how many bytes were read and not handed over.
func (c *Raw) Buffered() int { return len(c.in.Bytes()) }

// Widen gives the connection, which turned out to be a busy one, a buffer of size bytes for good.
func (c *Raw) Widen(size int) { c.in.Widen(size) }

// patience lets reading wait for d. The next read tells if that can't be set: the connection was closed.
func (c *Raw) patience(d time.Duration) {
	if !c.closing.Load() {
		_ = c.SetReadDeadline(time.Now().Add(d))
		if c.closing.Load() { // Shutdown's own deadline may just have been overwritten
			_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
		}
	}
}

// ReadPacket returns the next text or binary message with its kind. The packet belongs to the caller.
func (c *Raw) ReadPacket() (int, []byte, error) {
	for {
		kind, packet, size, err := c.protocol.Cut(c.in.Bytes())
		if err != nil {
			return 0, nil, err
		}
		if size == 0 {
			if err := c.fill(); err != nil {
				return 0, nil, err
			}
			continue
		}
		if kind != frame.NoPacket {
			packet = c.in.Copy(packet, size)
		}
		c.in.Consume(size)
		if kind != frame.NoPacket {
			return kind, packet, nil
		}
	}
}

// fill reads once. Meanwhile it looks after the peer's silence.
func (c *Raw) fill() error {
	for {
		err := c.in.Fill()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.closing.Load() {
			return c.protocol.Explain(err)
		}
		wait, err := c.protocol.Silence()
		if err != nil {
			return err
		}
		c.patience(wait)
	}
}

// WritePackets writes packets: see frame.Outbound.Write.
func (c *Raw) WritePackets(packets []*frame.Packet) (int, error) { return c.out.Write(packets) }

// Eager reports whether WriteNow may be called.
func (c *Raw) Eager() bool { return c.out.Eager() }

// WriteNow is WritePackets that returns early where it would have to wait: see frame.Cut.
func (c *Raw) WriteNow(packets []*frame.Packet) (int, error) { return c.out.WriteNow(packets) }

// Say writes a close frame, in a second at the most; an empty slice is one that was written before. Nobody else writes any more.
func (c *Raw) Say(farewell []byte) error {
	if len(farewell) == 0 {
		return nil
	}
	return c.out.Last(farewell, lingerTimeout)
}

// Shutdown is Say that gives the peer a second to answer.
func (c *Raw) Shutdown(farewell []byte) error {
	c.closing.Store(true)
	err := c.Say(farewell)
	return errors.Join(err, c.SetReadDeadline(time.Now().Add(lingerTimeout)))
}

// NetConn returns the connection below: TLS where there is TLS.
func (c *Raw) NetConn() net.Conn { return c.Conn }

// Drain reads what the peer still sends and throws it away, until its end or for timeout.
func (c *Raw) Drain(timeout time.Duration) { frame.Drain(c.Conn, timeout) }
