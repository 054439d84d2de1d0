package kcp

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/minotaur-gateway/gateway/server"
)

// socketBuffer is what the kernel is asked to hold of datagrams that nobody has read yet: a socket is all clients'.
const socketBuffer = 4 << 20

// transport accepts sessions on one socket.
type transport struct {
	opts  options
	given net.PacketConn // nil: Listen makes one

	mu     sync.Mutex // guards the rest
	hub    *hub
	closed chan struct{}
	once   *sync.Once // of closed
}

var (
	_ server.Transport     = (*transport)(nil)
	_ server.PacketConn    = (*conn)(nil)
	_ server.PacketLimiter = (*conn)(nil)
)

// NewTransport returns what server.WithTransport takes. What isn't set by an option the server's own options say.
func NewTransport(opts ...Option) server.Transport { return NewTransportOn(nil, opts...) }

// NewTransportOn is NewTransport with a socket that is there already, for one Run, after which it is closed. Its addresses must read like
// "203.0.113.7:4000".
func NewTransportOn(socket net.PacketConn, opts ...Option) server.Transport {
	return &transport{opts: newOptions(DefaultServerWindow, DefaultServerPing, DefaultServerTimeout, opts), given: socket}
}

// Listen binds addr.
func (t *transport) Listen(addr string) error {
	if t.opts.err != nil {
		return t.opts.err
	}
	socket, err := t.bind(addr)
	if err != nil {
		return err
	}
	h, err := newHub(socket, t.opts)
	if err != nil {
		socket.Close()
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hub, t.closed, t.once = h, make(chan struct{}), new(sync.Once)
	return nil
}

func (t *transport) bind(addr string) (net.PacketConn, error) {
	if t.given != nil {
		return t.given, nil
	}
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", server.ErrBadAddress, addr, err)
	}
	socket, err := net.ListenUDP("udp", udp)
	if err != nil {
		return nil, fmt.Errorf("kcp: %w", err)
	}
	_ = socket.SetReadBuffer(socketBuffer) // as much as the system allows
	return socket, nil
}

// Addr is where it listens.
func (t *transport) Addr() net.Addr { return t.current().socket.LocalAddr() }

func (t *transport) current() *hub {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hub
}

// Serve accepts sessions until Close. The socket is read for as long as a connection that was handed over needs it: the last one of
// them that is closed closes it too.
func (t *transport) Serve(acceptor *server.Acceptor) error {
	h := t.current()
	h.opts.maxPacket = cmp.Or(h.opts.maxPacket, acceptor.MaxPacketSize())
	h.opts.writeTimeout = cmp.Or(h.opts.writeTimeout, acceptor.WriteTimeout())
	h.opts.logger = cmp.Or(h.opts.logger, acceptor.Logger(), slog.Default())
	failed := make(chan error, 1)
	go h.receive(acceptor, failed)
	var err error
	select {
	case <-t.closed:
	case err = <-failed:
	}
	h.close()
	h.handshakes.Wait()
	h.endIfLast()
	return err
}

// Close stops accepting. Connections that were handed over go on.
func (t *transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hub == nil {
		return nil
	}
	t.once.Do(func() { close(t.closed) })
	return nil
}

// isClosed reports whether err says no more than that this side has closed.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
