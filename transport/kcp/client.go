package kcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
)

// core is a client's transport. It is run once.
type core struct {
	addr string // static, as is the next
	opts options

	mu     sync.Mutex // guards the rest
	cancel context.CancelFunc
	conn   *conn
	up     bool // the handshake is over
	closed bool
	silent bool // a write has failed: there is nobody to say good-bye to
}

var (
	_ client.Core          = (*core)(nil)
	_ client.PacketsWriter = (*core)(nil)
	_ client.PacketRaiser  = (*core)(nil)
)

// NewClient returns a client for "host:port". It connects when it is run.
func NewClient(addr string, opts ...Option) *client.Client {
	o := newOptions(DefaultClientWindow, DefaultClientPing, DefaultClientTimeout, opts)
	o.writeTimeout = cmp.Or(o.writeTimeout, client.DefaultWriteTimeout)
	c := &core{addr: addr, opts: o}
	made := client.NewClientWith(c, o.clientOpts...)
	c.opts.maxPacket = linkLimit(made.MaxPacketSize())
	return made
}

// Run connects and reads. It panics with the reason of an end that isn't orderly, as Cores do.
func (c *core) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	conn, err := c.connect()
	if err != nil {
		runState <- err
		return
	}
	defer conn.Close()
	conn.watch()
	runState <- nil
	for {
		kind, packet, err := conn.ReadPacket()
		switch {
		case err == nil:
			receive(kind, packet)
		case err == io.EOF:
			conn.settle()
			return
		case isClosed(err):
			return
		default:
			c.tell(conn, err)
			panic(err)
		}
	}
}

// tell lets a server know that broke a rule.
func (c *core) tell(conn *conn, err error) {
	code := codeOf(err)
	if code != 0 && conn.bye() {
		_ = conn.writeLast(closeFrame(code, err.Error())) // the connection is over anyway
	}
}

// connect makes a socket and shakes hands.
func (c *core) connect() (*conn, error) {
	if c.opts.err != nil {
		return nil, c.opts.err
	}
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return nil, fmt.Errorf("%w %q: want host:port: %w", client.ErrBadAddress, c.addr, err)
	}
	deadline := time.Now().Add(c.opts.handshake)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	c.mu.Lock()
	c.cancel = cancel
	if c.closed {
		cancel()
	}
	c.mu.Unlock()
	socket, remote, err := c.opts.dial(ctx, c.addr)
	if err != nil {
		return nil, fmt.Errorf("kcp: %w", err)
	}
	session, err := newSession(rand.Uint32(), remote, socket, &c.opts)
	if err != nil {
		socket.Close()
		return nil, err
	}
	conn := newConn(session, &c.opts, func() { socket.Close() })
	if !c.keep(conn) {
		conn.Close()
		return nil, client.ErrClosed
	}
	if err := conn.within(time.Until(deadline), conn.introduce); err != nil {
		conn.Close()
		return nil, fmt.Errorf("kcp: handshake with %s: %w", c.addr, err)
	}
	c.mu.Lock()
	c.up = true
	c.mu.Unlock()
	return conn, nil
}

// keep remembers conn for Close, unless that has come already.
func (c *core) keep(conn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	return !c.closed
}

// Write hands packet to KCP.
func (c *core) Write(packet *client.Packet) error {
	_, err := c.WritePackets([]*client.Packet{packet})
	return err
}

// WritePackets hands packets to KCP.
func (c *core) WritePackets(packets []*client.Packet) (int, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	n, err := conn.WritePackets(packets)
	if err != nil {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
	return n, err
}

// Close says good-bye, and makes Run return when the server has answered, which tells that everything written has arrived, or after
// the write timeout. Called again, or after a write has failed, or while connecting, it ends the session at once.
func (c *core) Close() {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	conn, cancel, polite := c.conn, c.cancel, first && c.up && !c.silent
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	switch {
	case conn == nil:
	case polite:
		conn.leave()
	default:
		conn.Close()
	}
}

func (c *core) GetServerAddr() string  { return c.addr }
func (c *core) Clone() client.Core     { return &core{addr: c.addr, opts: c.opts} }
func (c *core) RaisePacketLimit(n int) { c.opts.maxPacket = max(c.opts.maxPacket, linkLimit(n)) }

// codeOf is the code to close a peer with that broke a rule, 0 for other ends.
func codeOf(err error) int {
	switch {
	case errors.Is(err, frame.ErrPacketTooLarge):
		return codeTooLarge
	case errors.Is(err, ErrBadFrame):
		return codeProtocol
	}
	return 0
}

// dialUDP makes a socket that hears nobody but the server.
func dialUDP(ctx context.Context, addr string) (net.PacketConn, net.Addr, error) {
	var d net.Dialer
	connected, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		return nil, nil, err
	}
	udp := connected.(*net.UDPConn)
	_ = udp.SetReadBuffer(socketBuffer) // as much as the system allows
	return connectedSocket{udp}, udp.RemoteAddr(), nil
}

// connectedSocket is a connected UDP socket to which kcp-go may name the peer once more. It is no *net.UDPConn for kcp-go: some systems
// refuse the peer's address on a connected one.
type connectedSocket struct{ *net.UDPConn }

func (s connectedSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := s.UDPConn.Read(p)
	return n, s.RemoteAddr(), err
}

func (s connectedSocket) WriteTo(p []byte, _ net.Addr) (int, error) { return s.UDPConn.Write(p) }
