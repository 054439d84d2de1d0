package client

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// maxDatagram is the largest payload of a UDP datagram over IPv4: 65,535 bytes but for the heads of IP and UDP (RFC 768, RFC 791).
const maxDatagram = 65507

// NewUDP returns a client for "host:port" whose packets are datagrams: whole or not at all, and the network may lose, double or
// reorder them. It is for bots and tests: an endpoint's links can't be UDP. Run succeeds whether or not a server is there; if the
// server's host says that there is none, the client ends with ECONNREFUSED. Close tells the server nothing. WithMaxPacketSize is 65,443 bytes at the
// most, as always without the 64 bytes of a gateway's header; a larger datagram from the server is dropped.
func NewUDP(addr string, opts ...Option) *Client {
	o := newOptions(opts)
	o.maxPacket = min(o.maxPacket, maxDatagram-frame.WriteHeadroom)
	return NewClient(&udpCore{socket: socket{addr: addr, opts: o}})
}

// udpCore is a UDP socket that is connected to the server's address: the kernel drops what comes from elsewhere.
type udpCore struct {
	socket
	conn net.Conn // set before the outcome is sent
	slab frame.Slab
}

func (c *udpCore) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	if err := c.dial(); err != nil {
		runState <- err
		return
	}
	defer c.Close()
	runState <- nil
	limit := c.opts.maxPacket + frame.WriteHeadroom
	buf := make([]byte, limit+1)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			c.end(err)
			return
		}
		if n <= limit {
			receive(frame.KindNone, c.slab.Copy(buf[:n], 0))
		}
	}
}

func (c *udpCore) dial() error {
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return fmt.Errorf("%w %q: want host:port: %w", ErrBadAddress, c.addr, err)
	}
	if c.opts.useTLS {
		return errors.New("client: TLS over UDP")
	}
	ctx, cancel := c.dialing(c.opts)
	defer cancel()
	conn, err := c.opts.dial(ctx, "udp", c.addr)
	if err != nil {
		if atFault(err) {
			return fmt.Errorf("%w %q: %w", ErrBadAddress, c.addr, err)
		}
		return fmt.Errorf("client: %w", err)
	}
	c.conn = conn
	return c.keep(conn)
}

func (c *udpCore) Write(packet *Packet) error {
	_, err := c.WritePackets([]*Packet{packet})
	return err
}

// WritePackets sends each packet by itself. One that is too large for the way to the server is refused alone.
func (c *udpCore) WritePackets(packets []*Packet) (int, error) {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.opts.writeTimeout)); err != nil {
		return 0, err
	}
	for i, p := range packets {
		switch _, err := c.conn.Write(p.Bytes()); {
		case errors.Is(err, syscall.EMSGSIZE):
			p.Refuse(fmt.Errorf("%w: %d bytes: %w", ErrPacketTooLarge, len(p.Bytes()), err))
		case err != nil:
			return i, err
		}
	}
	return len(packets), nil
}

func (c *udpCore) Clone() Core { return &udpCore{socket: socket{addr: c.addr, opts: c.opts}} }

// unreliable is lossy's.
func (c *udpCore) unreliable() bool { return true }
