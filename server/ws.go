package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// wsTransport accepts WebSocket connections: net/http reads the request, and the HTTP handler is left once it is upgraded, which costs
// a third less memory per connection than staying in it.
type wsTransport struct {
	opts     options
	acceptor *Acceptor // Serve's, as is the next
	upgrader *upgrader
	path     string // "" serves every path
	listener net.Listener
	http     *http.Server

	closing atomic.Bool
	visits  sync.Map       // of *visit by net.Conn: the connections that are net/http's
	conns   sync.WaitGroup // connections that are net/http's, or whose upgrade is under way; added to and waited for by Serve's goroutine alone
}

var (
	_ Transport    = (*wsTransport)(nil)
	_ listenerUser = (*wsTransport)(nil)
)

func newWSTransport(opts options) *wsTransport {
	t := &wsTransport{opts: opts}
	t.http = &http.Server{
		Handler: t, ReadHeaderTimeout: handshakeTimeout, ReadTimeout: handshakeTimeout, WriteTimeout: handshakeTimeout,
		IdleTimeout: handshakeTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(opts.logger.Handler(), slog.LevelDebug),
		ConnState: t.count, ConnContext: t.meet,
	}
	// Who doesn't upgrade has no business here: request after request would keep a connection for nothing.
	t.http.SetKeepAlivesEnabled(false)
	return t
}

func (t *wsTransport) Listen(addr string) (err error) {
	host := addr
	if slash := strings.IndexByte(addr, '/'); slash >= 0 {
		host, t.path = addr[:slash], addr[slash:]
	}
	if strings.ContainsAny(t.path, "?#") {
		return fmt.Errorf("%w %q: want host:port/path without a query", ErrBadAddress, addr)
	}
	if t.listener, err = listen(NetworkWebsocket, host, t.opts); err != nil && host != addr {
		return fmt.Errorf("%q: %w", addr, err)
	}
	return err
}

func (t *wsTransport) use(ln net.Listener) (err error) {
	t.listener, err = over(ln, NetworkWebsocket, t.opts)
	return err
}

func (t *wsTransport) Addr() net.Addr { return t.listener.Addr() }

func (t *wsTransport) Serve(acceptor *Acceptor) error {
	t.acceptor, t.upgrader = acceptor, newUpgrader(t.opts, acceptor)
	err := t.http.Serve(t.listener)
	if closeErr := t.http.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	t.conns.Wait()
	if t.closing.Load() || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (t *wsTransport) Close() error {
	t.closing.Store(true)
	err := t.http.Close()
	if t.listener != nil {
		err = errors.Join(err, t.listener.Close()) // which net/http doesn't know before it serves
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// count keeps conns: net/http tells of a connection's beginning on the goroutine that accepts, before anything else. The
// end of one that is upgraded is ServeHTTP's.
func (t *wsTransport) count(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		t.conns.Add(1)
	case http.StateHijacked:
		t.part(conn, true)
	case http.StateClosed:
		t.part(conn, false)
		t.conns.Done()
	}
}

// ServeHTTP upgrades a request for the transport's path.
func (t *wsTransport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if v := visitOf(r); v != nil {
		v.asked.Store(true)
		if v.refusal != "" { // which is counted
			tryAgain(w, v.refusal)
			return
		}
	}
	if t.path != "" && r.URL.Path != t.path {
		t.upgrader.refused(r, fmt.Errorf("path is not %q", t.path))
		http.NotFound(w, r)
		return
	}
	if t.upgrader.upgrade(w, r) {
		t.conns.Done()
	}
}
