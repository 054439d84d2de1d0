package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsTransport accepts WebSocket connections: net/http reads the request, gorilla answers it, and the HTTP handler is
// left at once, which costs a third less memory per connection than staying in it.
type wsTransport struct {
	opts     options
	upgrader *websocket.Upgrader
	path     string // "" serves every path
	listener net.Listener
	http     *http.Server
	acceptor *Acceptor

	closing atomic.Bool
	refusal atomic.Int64   // when one was logged last, Unix nanoseconds
	conns   sync.WaitGroup // connections that are net/http's, or whose upgrade is under way; added to and waited for by Serve's goroutine alone
}

var _ Transport = (*wsTransport)(nil)

func newWSTransport(opts options) (*wsTransport, error) {
	t := &wsTransport{opts: opts, upgrader: opts.wsUpgrader}
	if t.upgrader == nil {
		t.upgrader = &websocket.Upgrader{
			HandshakeTimeout: handshakeTimeout, ReadBufferSize: 1 << 10, WriteBufferSize: 4 << 10,
			// Shared by all connections: one is held while a frame is written.
			WriteBufferPool: new(sync.Pool), EnableCompression: opts.wsCompression != 0 || opts.wsCompress,
		}
		if len(opts.wsOrigins) > 0 {
			t.upgrader.CheckOrigin = originChecker(opts.wsOrigins)
		}
	}
	if opts.subprotocol != "" {
		upgrader := *t.upgrader // the user's own stays as it is
		upgrader.Subprotocols = append([]string{opts.subprotocol}, upgrader.Subprotocols...)
		t.upgrader = &upgrader
	}
	t.http = &http.Server{
		Handler: t, ReadHeaderTimeout: handshakeTimeout, ReadTimeout: handshakeTimeout, WriteTimeout: handshakeTimeout,
		IdleTimeout: handshakeTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(opts.logger.Handler(), slog.LevelDebug),
		ConnState: t.count,
	}
	return t, nil
}

// originChecker accepts the server's own origin, those listed, and requests without one.
func originChecker(origins []string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		origin := r.Header.Get("Origin")
		if origin == "" || slices.Contains(origins, "*") {
			return true
		}
		if slices.ContainsFunc(origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
			return true
		}
		u, err := url.Parse(origin)
		return err == nil && strings.EqualFold(u.Host, r.Host)
	}
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

func (t *wsTransport) Addr() net.Addr { return t.listener.Addr() }

func (t *wsTransport) Serve(acceptor *Acceptor) error {
	t.acceptor = acceptor
	err := t.http.Serve(t.listener)
	if closeErr := t.http.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	t.conns.Wait()
	if t.closing.Load() {
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
func (t *wsTransport) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		t.conns.Add(1)
	case http.StateClosed:
		t.conns.Done()
	}
}

// ServeHTTP upgrades one request and leaves.
func (t *wsTransport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if t.path != "" && r.URL.Path != t.path {
		t.refused(r, fmt.Errorf("path is not %q", t.path))
		http.NotFound(w, r)
		return
	}
	head, ok := requestHead(r)
	if !ok {
		http.Error(w, http.StatusText(http.StatusRequestURITooLong), http.StatusRequestURITooLong)
		return
	}
	query := r.URL.Query()
	hijacker := &gatherHijacker{ResponseWriter: w, timeout: t.opts.writeTimeout}
	defer func() {
		if hijacker.conn != nil {
			t.conns.Done()
		}
	}()
	ws, err := t.upgrader.Upgrade(hijacker, r, nil)
	if err != nil {
		t.refused(r, err)
		return
	}
	if err := t.initialize(w, r, ws); err != nil {
		t.opts.logger.Debug("websocket initializer refused", "conn", r.RemoteAddr, "err", err)
		ws.Close()
		return
	}
	if t.opts.wsCompression != 0 {
		ws.SetCompressionLevel(t.opts.wsCompression)
	}
	ws.EnableWriteCompression(t.opts.wsCompress)
	t.accept(ws, hijacker.conn, head, query)
}

// accept hands over an upgraded connection. gorilla goes on with it where its messages may be compressed, or the user's own code has
// touched it, or may have: else it has done its part.
func (t *wsTransport) accept(ws *websocket.Conn, gather *wsio.GatherConn, head []byte, query url.Values) {
	if t.upgrader.EnableCompression || t.opts.wsUpgrader != nil || t.opts.wsInit != nil {
		t.acceptor.Accept(newWSConn(ws, gather, head, query, t.opts))
		return
	}
	protocol := newWSProtocol(&upgrade{head, query, ws.Subprotocol()}, &t.opts)
	if t.opts.loops == nil {
		t.acceptor.Accept(newRawConn(gather.Conn, protocol, &t.opts))
		return
	}
	t.opts.loops.accept(t.acceptor, gather.Conn, &protocol, nil, &frames)
}

// refused says, once a second at most, who was not let in: whoever writes the client looks here first.
func (t *wsTransport) refused(r *http.Request, err error) {
	now := time.Now().UnixNano()
	last := t.refusal.Load()
	if now-last < int64(time.Second) || !t.refusal.CompareAndSwap(last, now) {
		return
	}
	t.opts.logger.Warn("websocket refused", "conn", r.RemoteAddr, "path", r.URL.Path, "origin", r.Header.Get("Origin"), "err", err)
}

// initialize runs the user's initializer, if there is one. A panic refuses the connection, as an error does.
func (t *wsTransport) initialize(w http.ResponseWriter, r *http.Request, ws *websocket.Conn) (err error) {
	if t.opts.wsInit == nil {
		return nil
	}
	hook.Guard(func() { err = t.opts.wsInit(w, r, ws) }, func(value any, stack []byte) {
		t.acceptor.srv.stats.panics.Add(1)
		t.opts.logger.Error("websocket initializer panicked", "conn", r.RemoteAddr, "panic", value, "stack", string(stack))
		err = ErrHandlerPanic
	})
	return err
}

// gatherHijacker hands gorilla a connection that gathers writes. Through the response controller it also reaches
// connections behind middleware that only offers Unwrap.
type gatherHijacker struct {
	http.ResponseWriter
	timeout time.Duration
	conn    *wsio.GatherConn
}

func (h *gatherHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = wsio.NewGatherConn(conn, h.timeout)
	return h.conn, rw, nil
}

// handshakeFields have done their part.
var handshakeFields = []string{"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions"}

// requestHead writes the head of r down, as far as it fits: the request line and the host always, but without a query
// that is too long, then whole fields. It reports false where not even that fits.
func requestHead(r *http.Request) ([]byte, bool) {
	line := func(target string) string {
		return r.Method + " " + target + " " + r.Proto + "\r\nHost: " + r.Host + "\r\n"
	}
	begin := line(r.RequestURI)
	if len(begin)+2 > maxRequestHead {
		begin = line(r.URL.EscapedPath())
	}
	if len(begin)+2 > maxRequestHead {
		return nil, false
	}
	b := bytes.NewBufferString(begin)
	for key, values := range r.Header {
		if slices.Contains(handshakeFields, key) {
			continue
		}
		for _, value := range values {
			if line := key + ": " + value + "\r\n"; b.Len()+len(line)+2 <= maxRequestHead {
				b.WriteString(line)
			}
		}
	}
	b.WriteString("\r\n")
	return bytes.Clone(b.Bytes()), true
}

// wsConn is a PacketConn over WebSocket.
type wsConn struct {
	*wsio.Conn
	types  []int // accepted; nil: all
	remote net.Addr
	head   []byte
	params url.Values

	mu    sync.Mutex // guards the rest
	timer *time.Timer
	done  bool
}

var (
	_ PacketConn = (*wsConn)(nil)
	_ requester  = (*wsConn)(nil)
)

func newWSConn(ws *websocket.Conn, gather *wsio.GatherConn, head []byte, query url.Values, opts options) *wsConn {
	c := &wsConn{types: opts.wsTypes, remote: ws.RemoteAddr(), head: head, params: query}
	c.Conn = wsio.NewConn(ws, gather, opts.readLimit(), opts.wsDeadline)
	c.pingAfter(opts.wsDeadline / 2)
	return c
}

// pingAfter pings a client that was silent for d, again and again, so that one that lives is never cut for silence.
func (c *wsConn) pingAfter(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return
	}
	c.timer = time.AfterFunc(max(d-c.SilentFor(), d/4), func() {
		if c.SilentFor() >= d {
			// A ping that can't be sent is no news: the read deadline tells.
			_ = c.Ping()
		}
		c.pingAfter(d)
	})
}

func (c *wsConn) ReadPacket() (int, []byte, error) {
	kind, packet, err := c.Conn.ReadPacket()
	if err == nil && len(c.types) > 0 && !slices.Contains(c.types, kind) {
		return 0, nil, ErrMessageType
	}
	return kind, packet, err
}

func (c *wsConn) WritePackets(packets []*Packet) (int, error) {
	n, err := c.Conn.WritePackets(packets)
	if errors.Is(err, websocket.ErrCloseSent) { // in answer to the client's: the reader has the reason
		err = fmt.Errorf("%w: %w", ErrConnClosed, err)
	}
	return n, err
}

func (c *wsConn) Close() error {
	c.mu.Lock()
	c.done = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *wsConn) setLimit(n int)       { c.SetLimit(n) }
func (c *wsConn) RemoteAddr() net.Addr { return c.remote }
func (c *wsConn) requestHead() []byte  { return c.head }

func (c *wsConn) query() url.Values { return c.params }
func (c *wsConn) forget()           { c.head, c.params = nil, nil }
