package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// socket is what the Cores of this package share: one connection that is dialed, and may be closed at any time, dialing or not.
type socket struct {
	mu     sync.Mutex // guards the rest
	cancel context.CancelFunc
	closed bool
	conn   io.Closer // below TLS: closing there would wait for the server to take an alert
	reason error
}

// dialing returns the context to dial with, already cancelled if the socket was closed.
func (s *socket) dialing(opts options) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), opts.dialTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
	}
	s.cancel = cancel
	return ctx, cancel
}

// keep remembers conn for Close, or closes it if that has come already. Handshakes come after it, so that Close ends them.
func (s *socket) keep(conn io.Closer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return ErrClosed
	}
	s.conn = conn
	return nil
}

// Close ends the connection, or dialing.
func (s *socket) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.cancel != nil {
		s.cancel()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *socket) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reason = err
}

func (s *socket) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// streamCore connects over TCP, with and without TLS, and Unix sockets.
type streamCore struct {
	socket
	network string
	addr    string
	opts    options
	stream  net.Conn // written before the outcome is sent, then read only
	quiet   func()   // nil: nobody wants to know

	loop   *loop.Loop  // that is to read and write; nil: goroutines do
	owner  *connection // set before Run, as the three above
	onLoop *loopStream // written before the outcome is sent, then read only; nil: loop is, or stream is no plain socket
}

var (
	_ Core       = (*streamCore)(nil)
	_ gatherer   = (*streamCore)(nil)
	_ reasoner   = (*streamCore)(nil)
	_ ender      = (*streamCore)(nil)
	_ quieter    = (*streamCore)(nil)
	_ boundless  = (*streamCore)(nil)
	_ configured = (*streamCore)(nil)
	_ secured    = (*streamCore)(nil)
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
		if conn, err = c.secure(ctx, conn); err != nil {
			return err
		}
	}
	c.stream = conn
	return c.moveToLoop(conn)
}

// atFault reports whether dialing failed because the address is none.
func atFault(err error) bool {
	var bad *net.AddrError
	return errors.As(err, &bad)
}

func (c *streamCore) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	config := c.opts.tls.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config.ServerName, _, _ = net.SplitHostPort(c.addr)
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("client: tls handshake with %s: %w", c.addr, err)
	}
	return secure, nil
}

func (c *streamCore) Write(packet *Packet) error {
	_, err := c.writePackets([]*Packet{packet})
	return err
}

func (c *streamCore) writePackets(packets []*Packet) (int, error) {
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

func (c *streamCore) GetServerAddr() string { return c.addr }
func (c *streamCore) Clone() Core {
	return &streamCore{network: c.network, addr: c.addr, opts: c.opts}
}
func (c *streamCore) raw() bool        { return frame.IsRaw(c.opts.framer) }
func (c *streamCore) options() options { return c.opts }

func (c *streamCore) onQuiet(quiet func()) { c.quiet = quiet }
