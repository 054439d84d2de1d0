package gatewaytest

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
)

// core is a client's side of a Network. It frames packets as its servers do.
type core struct {
	network *Network
	addr    string
	from    net.Addr // what the server sees; nil: another for each connection

	mu     sync.Mutex // guards the rest
	conn   net.Conn
	closed bool
}

var _ client.Core = (*core)(nil)

func (c *core) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	conn, err := c.dial()
	if err != nil {
		runState <- err
		return
	}
	defer conn.Close()
	runState <- nil
	reader := frame.NewReader(conn, frame.Default(), maxPacket, 0, 0)
	for {
		packet, err := reader.Next()
		switch {
		case err == nil:
			receive(frame.KindNone, packet)
		case err == io.EOF || errors.Is(err, net.ErrClosed):
			return
		default:
			panic(err) // as a Core tells why it has ended
		}
	}
}

func (c *core) dial() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, client.ErrClosed
	}
	conn, err := c.network.dial(c.addr, c.from)
	if err == nil {
		c.conn = conn
	}
	return conn, err
}

func (c *core) Write(packet *client.Packet) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	_, err := frame.WriteStream(conn, frame.Default(), []*client.Packet{packet}, client.DefaultWriteTimeout)
	return err
}

func (c *core) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *core) GetServerAddr() string { return c.addr }

func (c *core) Clone() client.Core { return &core{network: c.network, addr: c.addr, from: c.from} }
