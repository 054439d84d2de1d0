package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/proxyproto"
	"github.com/minotaur-gateway/gateway/internal/trust"
)

// proxyListener accepts connections whose clients are known: it reads the PROXY headers of trusted proxies, each on a goroutine of its
// own, so that nobody waits for a slow one. What others send it doesn't look at.
type proxyListener struct {
	net.Listener
	trusted trust.Prefixes
	http    bool // a request may follow instead of a header, and tell
	refuse  func(addr net.Addr, err error)

	start sync.Once     // of accept
	ready chan net.Conn // what Accept returns
	stop  chan struct{} // closed by end: nothing is handed over any more
	ended chan struct{} // closed when err is final, and every goroutine of the listener has ended
	err   error

	reading sync.WaitGroup // added to and waited for by accept alone
	mu      sync.Mutex     // guards the rest
	over    bool
	open    map[net.Conn]struct{} // whose headers are read
}

func newProxyListener(ln net.Listener, trusted trust.Prefixes, http bool, refuse func(net.Addr, error)) *proxyListener {
	return &proxyListener{
		Listener: ln, trusted: trusted, http: http, refuse: refuse,
		ready: make(chan net.Conn), stop: make(chan struct{}), ended: make(chan struct{}), open: map[net.Conn]struct{}{},
	}
}

// Accept is for one goroutine. After an error nothing of the listener is left.
func (l *proxyListener) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.accept() })
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ended:
		return nil, l.err
	}
}

func (l *proxyListener) Close() error {
	l.end()
	return l.Listener.Close()
}

// end cuts the connections whose headers have not come.
func (l *proxyListener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.stop)
	for conn := range l.open {
		conn.Close()
	}
}

func (l *proxyListener) accept() {
	defer close(l.ended)
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.err = err
			break
		}
		if !l.trusted.Trusts(conn.RemoteAddr()) || l.http && isTLS(conn) { // its requests are looked at all the same
			l.hand(conn)
			continue
		}
		l.reading.Add(1)
		go l.name(conn)
	}
	l.end()
	l.reading.Wait()
}

func isTLS(conn net.Conn) bool { _, ok := conn.(*tls.Conn); return ok }

func (l *proxyListener) hand(conn net.Conn) {
	select {
	case l.ready <- conn:
	case <-l.stop:
		conn.Close()
	}
}

// name reads a header, and hands the connection over as its client's.
func (l *proxyListener) name(conn net.Conn) {
	defer l.reading.Done()
	if !l.enter(conn) {
		conn.Close()
		return
	}
	client, err := l.read(conn)
	going := l.leave(conn)
	if err == nil {
		l.hand(client)
		return
	}
	conn.Close()
	if going && err != errUnused {
		l.refuse(conn.RemoteAddr(), err)
	}
}

func (l *proxyListener) enter(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.open[conn] = struct{}{}
	return true
}

// leave reports whether the listener goes on.
func (l *proxyListener) leave(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
	return !l.over
}

// read has the handshake timeout, however much comes in it.
func (l *proxyListener) read(conn net.Conn) (*namedConn, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	h, rest, err := proxyproto.Read(conn)
	if err != nil && !(l.http && errors.Is(err, proxyproto.ErrNoHeader)) {
		return nil, err
	}
	c := &namedConn{Conn: conn, addr: conn.RemoteAddr(), header: err == nil, rest: rest}
	proxy, _ := trust.AddrPort(conn.RemoteAddr()) // which is trusted, and so it is one
	if h.Named() && trust.Places(proxy.Addr(), h.Source.Addr()) {
		c.addr = net.TCPAddrFromAddrPort(h.Source)
	} else {
		c.local = c.header
	}
	if c.header && !h.Named() {
		if c.rest, err = firstByte(conn); err != nil {
			return nil, err
		}
	}
	return c, conn.SetDeadline(time.Time{})
}

// errUnused ends a connection that was a proxy's own and has come to nothing.
var errUnused = errors.New("server: a proxy's own connection ended without a byte")

// firstByte waits for what a proxy has to say for itself: a health check ends without a word, or by a reset.
func firstByte(conn net.Conn) ([]byte, error) {
	first := make([]byte, 1)
	_, err := io.ReadFull(conn, first)
	var timeout net.Error
	if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
		err = errUnused
	}
	return first, err
}
