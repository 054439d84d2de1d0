package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// streamTransport accepts TCP and Unix sockets, with and without TLS, and marks packets on them by a framer.
type streamTransport struct {
	network  Network
	opts     options
	listener net.Listener
	style    *frame.Style

	ctx    context.Context // ends handshakes
	cancel context.CancelFunc
	shakes sync.WaitGroup // added to and waited for by Serve alone
}

var (
	_ Transport    = (*streamTransport)(nil)
	_ listenerUser = (*streamTransport)(nil)
)

func newStreamTransport(network Network, opts options) *streamTransport {
	t := &streamTransport{network: network, opts: opts, style: opts.style()}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func (t *streamTransport) Listen(addr string) (err error) {
	t.listener, err = listen(t.network, addr, t.opts)
	return err
}

func (t *streamTransport) use(ln net.Listener) (err error) {
	t.listener, err = over(ln, t.network, t.opts)
	return err
}

func (t *streamTransport) Addr() net.Addr { return t.listener.Addr() }

func (t *streamTransport) Serve(acceptor *Acceptor) error {
	defer t.shakes.Wait()
	defer t.cancel()
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if secure, ok := conn.(*tls.Conn); ok {
			t.shake(secure, acceptor)
			continue
		}
		t.accept(acceptor, conn)
	}
}

// accept hands over a connection without TLS.
func (t *streamTransport) accept(acceptor *Acceptor, conn net.Conn) {
	if r := acceptor.srv.come(conn.RemoteAddr()); r != "" {
		acceptor.srv.turnAway(newStreamConn(conn, t.opts), r)
		return
	}
	if !t.opts.loops.accept(acceptor, conn, nil, &streamProtocol{framer: t.opts.framer, limit: t.opts.readLimit()}, t.style) {
		acceptor.srv.take(newStreamConn(conn, t.opts))
	}
}

// shake begins a handshake, which counts as a connection.
func (t *streamTransport) shake(conn *tls.Conn, acceptor *Acceptor) {
	if r := acceptor.srv.come(conn.RemoteAddr()); r != "" {
		// No answer without a handshake, which costs more than a connection that is let in.
		acceptor.srv.refuse(r, conn.RemoteAddr())
		conn.NetConn().Close()
		return
	}
	t.shakes.Add(1)
	go t.handshake(conn, acceptor)
}

func (t *streamTransport) handshake(conn *tls.Conn, acceptor *Acceptor) {
	defer t.shakes.Done()
	ctx, cancel := context.WithTimeout(t.ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		acceptor.srv.goAway(conn.RemoteAddr())
		acceptor.srv.stats.refusals.add(RefusedHandshake)
		t.opts.logger.Debug("tls handshake failed", "conn", conn.RemoteAddr().String(), "err", err)
		conn.Close()
		return
	}
	acceptor.srv.take(newStreamConn(conn, t.opts))
}

func (t *streamTransport) Close() error {
	t.cancel()
	if t.listener == nil {
		return nil
	}
	if err := t.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// streamConn is a PacketConn over a byte stream.
type streamConn struct {
	net.Conn
	remote net.Addr
	reader *frame.Reader
	out    frame.Outbound
}

var (
	_ PacketConn = (*streamConn)(nil)
	_ eager      = (*streamConn)(nil)
	_ waiter     = (*streamConn)(nil)
)

func newStreamConn(conn net.Conn, opts options) *streamConn {
	remote := conn.RemoteAddr()
	conn = bare(conn)
	return &streamConn{
		Conn: conn, remote: remote, out: frame.NewOutbound(conn, opts.style(), opts.writeTimeout),
		reader: frame.NewReader(conn, opts.framer, opts.readLimit(), packetTimeout, 0),
	}
}

// NewStreamConn makes a PacketConn of a byte stream, for transports of one's own: framer marks the packets, one above
// maxPacketSize bytes ends the connection, and each write has DefaultWriteTimeout. Where conn has Shutdown(code int, reason string) error,
// it is called instead of CloseWrite, with what CloseWith was given.
func NewStreamConn(conn net.Conn, framer Framer, maxPacketSize int) PacketConn {
	opts := defaultOptions()
	opts.framer, opts.maxPacket = framer, maxPacketSize
	return newStreamConn(conn, opts)
}

func (c *streamConn) ReadPacket() (int, []byte, error) {
	packet, err := c.reader.Next()
	return frame.KindNone, packet, err
}

func (c *streamConn) WritePackets(packets []*Packet) (int, error) { return c.out.Write(packets) }
func (c *streamConn) canWriteNow() bool                           { return c.out.Eager() }
func (c *streamConn) writeNow(packets []*Packet) (int, error)     { return c.out.WriteNow(packets) }
func (c *streamConn) onWait(wait func())                          { c.reader.OnWait(wait) }
func (c *streamConn) buffered() int                               { return len(c.reader.Bytes()) }
func (c *streamConn) widen(size int)                              { c.reader.Widen(size) }

// Shutdown ends the stream from this side, where the connection can do that. One of a transport of somebody's own may be able to say
// why.
func (c *streamConn) Shutdown(code int, reason string) error {
	if teller, ok := c.Conn.(interface {
		Shutdown(code int, reason string) error
	}); ok {
		return teller.Shutdown(code, reason)
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// NetConn returns the connection below the framer.
func (c *streamConn) NetConn() net.Conn { return c.Conn }

// RemoteAddr is the peer's, or who a proxy says that it is.
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

func (c *streamConn) SetPacketLimit(n int) { c.reader.SetLimit(n) }

// Drain reads what the peer still sends and throws it away, until its end or for timeout.
func (c *streamConn) Drain(timeout time.Duration) { frame.Drain(c.Conn, timeout) }
