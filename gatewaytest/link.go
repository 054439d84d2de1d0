package gatewaytest

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// link is one connection: a pipe for each direction, so that either can end by itself as a socket's can.
type link struct {
	near, far *linkConn
	broken    atomic.Bool
	told      atomic.Pointer[CloseError] // to the end that dialed; nil: nothing
	forget    func(*link)                // called when an end was closed
}

// newLink returns the ends of the one that dialed and of the one that listens.
func newLink(from, to net.Addr, forget func(*link)) (near, far *linkConn) {
	l := &link{forget: forget}
	nearOut, farIn := net.Pipe()
	farOut, nearIn := net.Pipe()
	l.near = &linkConn{link: l, in: nearIn, out: nearOut, local: from, remote: to}
	l.far = &linkConn{link: l, in: farIn, out: farOut, local: to, remote: from}
	return l.near, l.far
}

func (l *link) cut() {
	l.broken.Store(true)
	for _, c := range []*linkConn{l.near, l.far} {
		c.in.Close()
		c.out.Close()
	}
}

// linkConn is one end of a link. Its errors are those of a socket.
type linkConn struct {
	link          *link
	in, out       net.Conn
	local, remote net.Addr
	closed        atomic.Bool
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	return n, c.explain("read", err)
}

func (c *linkConn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	return n, c.explain("write", err)
}

func (c *linkConn) explain(op string, err error) error {
	ended := err == io.EOF || errors.Is(err, io.ErrClosedPipe)
	switch {
	case err == nil:
		return nil
	case ended && c.closed.Load():
		err = net.ErrClosed
	case ended && c.link.broken.Load():
		err = syscall.ECONNRESET
	case err == io.EOF:
		return err
	case ended:
		err = syscall.EPIPE
	}
	return &net.OpError{Op: op, Net: memory, Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite ends the stream from this side. The other direction goes on.
func (c *linkConn) CloseWrite() error { return c.out.Close() }

// Shutdown is CloseWrite, of the end that listens, that tells why.
func (c *linkConn) Shutdown(code int, reason string) error {
	c.link.told.Store(&CloseError{Code: code, Reason: reason})
	return c.CloseWrite()
}

func (c *linkConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.in.Close()
	c.out.Close()
	c.link.forget(c.link)
	return nil
}

func (c *linkConn) LocalAddr() net.Addr  { return c.local }
func (c *linkConn) RemoteAddr() net.Addr { return c.remote }

func (c *linkConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *linkConn) SetReadDeadline(t time.Time) error { return c.setDeadline(c.in.SetReadDeadline, t) }
func (c *linkConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(c.out.SetWriteDeadline, t)
}

// setDeadline fails as a socket does, after Close only. A pipe refuses when the other end has closed too.
func (c *linkConn) setDeadline(set func(time.Time) error, t time.Time) error {
	if set(t) != nil && c.closed.Load() {
		return net.ErrClosed
	}
	return nil
}
