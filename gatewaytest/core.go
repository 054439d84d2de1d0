package gatewaytest

import (
	"errors"
	"fmt"
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
	conn   *linkConn
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
		case err == io.EOF:
			if told := conn.link.told.Load(); told.fault() {
				panic(told)
			}
			return
		case errors.Is(err, net.ErrClosed):
			return
		default:
			panic(err) // as a Core tells why it has ended
		}
	}
}

func (c *core) dial() (*linkConn, error) {
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

// CloseError is why a server, or a gateway for its endpoint, has closed a client: what a WebSocket client would read from a close
// frame. The client's closed event gets it, unless the code is that of an orderly end: 0, 1000 or 1001.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("close %d: %s", e.Code, e.Reason) }

// fault reports whether the end was no orderly one. nil is nothing.
func (e *CloseError) fault() bool { return e != nil && e.Code != 0 && e.Code != 1000 && e.Code != 1001 }
