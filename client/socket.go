package client

import (
	"context"
	"io"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

// socket is what the Cores of this package share: one connection that is dialed, and may be closed at any time, dialing or not.
type socket struct {
	addr  string // static, as is the next
	opts  options
	owner *connection // set before Run, as are the next two
	loop  *loop.Loop  // that is to read and write; nil: goroutines do
	quiet func()      // nil: nobody wants to know

	onLoop *loopStream // written before the outcome is sent, then read only; nil: loop is, or the connection is no plain socket

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

func (s *socket) base() *socket          { return s }
func (s *socket) GetServerAddr() string  { return s.addr }
func (s *socket) options() options       { return s.opts }
func (s *socket) RaisePacketLimit(n int) { s.opts.maxPacket = max(s.opts.maxPacket, n) }
func (s *socket) onQuiet(quiet func())   { s.quiet = quiet }
