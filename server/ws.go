package server

import (
	"bufio"
	"bytes"
	"errors"
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

	closing  atomic.Bool
	handlers sync.WaitGroup
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
	if slash := strings.IndexByte(addr, '/'); slash >= 0 {
		addr, t.path = addr[:slash], addr[slash:]
	}
	t.listener, err = listen(NetworkWebsocket, addr, t.opts)
	if err != nil {
		return err
	}
	t.http = &http.Server{
		Handler: t, ReadHeaderTimeout: handshakeTimeout, ReadTimeout: handshakeTimeout, IdleTimeout: handshakeTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(t.opts.logger.Handler(), slog.LevelDebug),
	}
	return nil
}

func (t *wsTransport) Addr() net.Addr { return t.listener.Addr() }

func (t *wsTransport) Serve(acceptor *Acceptor) error {
	t.acceptor = acceptor
	err := t.http.Serve(t.listener)
	if errors.Is(err, http.ErrServerClosed) || t.closing.Load() {
		return nil
	}
	return err
}

func (t *wsTransport) Close() error {
	t.closing.Store(true)
	if t.http == nil {
		return nil
	}
	err := errors.Join(t.http.Close(), t.listener.Close())
	t.handlers.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ServeHTTP upgrades one request and leaves.
func (t *wsTransport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.handlers.Add(1)
	defer t.handlers.Done()
	if t.path != "" && r.URL.Path != t.path {
		http.NotFound(w, r)
		return
	}
	head, query := requestHead(r), r.URL.Query()
	hijacker := &gatherHijacker{ResponseWriter: w, timeout: t.opts.writeTimeout}
	ws, err := t.upgrader.Upgrade(hijacker, r, nil)
	if err != nil {
		t.opts.logger.Debug("websocket upgrade failed", "conn", r.RemoteAddr, "err", err)
		return
	}
	if t.opts.wsInit != nil {
		if err := t.opts.wsInit(w, r, ws); err != nil {
			t.opts.logger.Debug("websocket initializer refused", "conn", r.RemoteAddr, "err", err)
			ws.Close()
			return
		}
	}
	if t.opts.wsCompression != 0 {
		ws.SetCompressionLevel(t.opts.wsCompression)
	}
	ws.EnableWriteCompression(t.opts.wsCompress)
	t.acceptor.Accept(newWSConn(ws, hijacker.conn, head, query, t.opts))
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

// requestHead writes the head of r down, as far as it fits: the request line and the host always, then whole fields.
func requestHead(r *http.Request) []byte {
	var b bytes.Buffer
	b.WriteString(r.Method + " " + r.RequestURI + " " + r.Proto + "\r\nHost: " + r.Host + "\r\n")
	for key, values := range r.Header {
		for _, value := range values {
			if line := key + ": " + value + "\r\n"; b.Len()+len(line)+2 <= maxRequestHead {
				b.WriteString(line)
			}
		}
	}
	b.WriteString("\r\n")
	return bytes.Clone(b.Bytes())
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
	c.Conn = wsio.NewConn(ws, gather, opts.maxPacket, opts.wsDeadline, nil)
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

func (c *wsConn) Close() error {
	c.mu.Lock()
	c.done = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *wsConn) RemoteAddr() net.Addr { return c.remote }
func (c *wsConn) requestHead() []byte  { return c.head }

// query returns the URL's parameters, once: nobody else holds on to them.
func (c *wsConn) query() url.Values {
	params := c.params
	c.params = nil
	return params
}
