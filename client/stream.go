package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// streamCore connects over TCP, with and without TLS, and Unix sockets.
type streamCore struct {
	socket
	network string
	stream  net.Conn // written before the outcome is sent, then read only
}

var (
	_ Core          = (*streamCore)(nil)
	_ PacketsWriter = (*streamCore)(nil)
	_ reasoner      = (*streamCore)(nil)
	_ ender         = (*streamCore)(nil)
	_ quieter       = (*streamCore)(nil)
	_ boundless     = (*streamCore)(nil)
	_ configured    = (*streamCore)(nil)
	_ secured       = (*streamCore)(nil)
	_ looping       = (*streamCore)(nil)
	_ protocol      = (*streamCore)(nil)
)

func (c *streamCore) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	if err := c.dial(); err != nil {
		runState <- err
		return
	}
	defer c.Close()
	runState <- nil
	if c.onLoop != nil {
		c.onLoop.run(receive)
		return
	}
	reader := frame.NewReader(c.stream, c.opts.framer, c.opts.maxPacket+frame.WriteHeadroom, packetTimeout, linkReadBuffer)
	reader.OnWait(c.quiet)
	for {
		packet, err := reader.Next()
		if err != nil {
			c.end(err)
			if errors.Is(err, ErrPacketTooLarge) { // closed on unread bytes, the socket would take our last words back
				c.shutdown()
				frame.Drain(c.stream, lingerTimeout)
			}
			return
		}
		receive(frame.KindNone, packet)
	}
}

func (c *streamCore) dial() error {
	if c.network == "tcp" {
		if _, _, err := net.SplitHostPort(c.addr); err != nil {
			return fmt.Errorf("%w %q: want host:port: %w", ErrBadAddress, c.addr, err)
		}
	} else if c.addr == "" {
		return fmt.Errorf("%w %q: want the path of a unix socket", ErrBadAddress, c.addr)
	}
	ctx, cancel := c.dialing(c.opts)
	defer cancel()
	conn, err := c.opts.dial(ctx, c.network, c.addr)
	if err != nil {
		if atFault(err) {
			return fmt.Errorf("%w %q: %w", ErrBadAddress, c.addr, err)
		}
		return fmt.Errorf("client: %w", err)
	}
	if err := c.keep(conn); err != nil {
		return err
	}
	if c.opts.useTLS {
		host, _, _ := net.SplitHostPort(c.addr)
		secure := tls.Client(conn, c.opts.tlsFor(host))
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return fmt.Errorf("client: tls handshake with %s: %w", c.addr, err)
		}
		conn = secure
	}
	c.stream = conn
	return c.moveToLoop(conn, c, &frame.Style{Framer: c.opts.framer}, nil)
}

// atFault reports whether dialing failed because the address is none.
func atFault(err error) bool {
	var bad *net.AddrError
	return errors.As(err, &bad)
}

func (c *streamCore) Write(packet *Packet) error {
	_, err := c.WritePackets([]*Packet{packet})
	return err
}

func (c *streamCore) WritePackets(packets []*Packet) (int, error) {
	if c.onLoop != nil {
		return c.onLoop.writePackets(packets)
	}
	return frame.WriteStream(c.stream, c.opts.framer, packets, c.opts.writeTimeout)
}

// shutdown ends the stream from this side; the server ends it from its own.
func (c *streamCore) shutdown() {
	if half, ok := c.stream.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		c.Close()
	}
}

func (c *streamCore) Clone() Core {
	return &streamCore{network: c.network, socket: socket{addr: c.addr, opts: c.opts}}
}
func (c *streamCore) raw() bool { return frame.IsRaw(c.opts.framer) }

func (c *streamCore) mayLoop() bool { return !c.opts.useTLS }

func (c *streamCore) cut(buf []byte) (int, []byte, int, error) {
	if len(buf) == 0 {
		return frame.NoPacket, nil, 0, nil
	}
	packet, size, err := c.opts.framer.Next(buf, c.opts.maxPacket+frame.WriteHeadroom)
	return frame.KindNone, packet, size, err
}

func (c *streamCore) explain(err error) error { return err }

func (c *streamCore) overdue(now time.Time, rest *frame.Pieces) error {
	if rest.Overdue(now, packetTimeout) {
		return fmt.Errorf("%w: %d bytes of it after %v", frame.ErrPacketTimeout, rest.Len(), packetTimeout)
	}
	return nil
}

func (c *streamCore) lastPayload(err error) (payload []byte, fault, ok bool) {
	return nil, errors.Is(err, ErrPacketTooLarge), false
}

func (c *streamCore) closeFrame([]byte) []byte { return nil }
func (c *streamCore) took([]*Packet)           {}
