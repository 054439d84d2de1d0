package server

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// upgrader makes WebSocket connections of HTTP requests: gorilla answers them.
type upgrader struct {
	opts     options
	gorilla  *websocket.Upgrader
	acceptor *Acceptor
}

func newUpgrader(opts options, acceptor *Acceptor) *upgrader {
	u := &upgrader{opts: opts, gorilla: opts.wsUpgrader, acceptor: acceptor}
	if u.gorilla == nil {
		u.gorilla = &websocket.Upgrader{
			HandshakeTimeout: handshakeTimeout, ReadBufferSize: 1 << 10, WriteBufferSize: 4 << 10,
			// Shared by all connections: one is held while a frame is written.
			WriteBufferPool: new(sync.Pool), EnableCompression: opts.wsCompression != 0 || opts.wsCompress,
		}
		if len(opts.wsOrigins) > 0 {
			u.gorilla.CheckOrigin = originChecker(opts.wsOrigins)
		}
	}
	if opts.subprotocol != "" {
		own := *u.gorilla // the user's own stays as it is
		own.Subprotocols = append([]string{opts.subprotocol}, own.Subprotocols...)
		u.gorilla = &own
	}
	return u
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

// ServeHTTP upgrades one request, and returns.
func (u *upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) { u.upgrade(w, r) }

// upgrade reports whether the connection is no longer net/http's, upgraded or not.
func (u *upgrader) upgrade(w http.ResponseWriter, r *http.Request) (hijacked bool) {
	if err := unfit(w, r); err != nil {
		u.refused(r, err)
		return false
	}
	head, ok := requestHead(r)
	if !ok {
		u.refused(r, fmt.Errorf("request line above %d bytes", maxRequestHead))
		http.Error(w, http.StatusText(http.StatusRequestURITooLong), http.StatusRequestURITooLong)
		return false
	}
	r, client, ok := u.forwarded(w, r)
	if !ok {
		return false
	}
	entered, undo, ok := u.letIn(w, r)
	if !ok {
		return false
	}
	hijacked, taken := u.upgradeEntered(w, r, head, client, entered)
	if hijacked {
		undo = u.acceptor.srv.goAway
	}
	if !taken {
		undo(entered)
	}
	return hijacked
}

// upgradeEntered is upgrade for a connection that has been let in, as entered, of client; nil: of whom the connection tells. taken: it is
// the server's to count.
func (u *upgrader) upgradeEntered(w http.ResponseWriter, r *http.Request, head []byte, client, entered net.Addr) (hijacked, taken bool) {
	query := r.URL.Query()
	hijacker := &gatherHijacker{ResponseWriter: w, timeout: u.opts.writeTimeout, client: client}
	ws, err := u.answer(hijacker, r)
	if err != nil {
		u.refused(r, err)
		return hijacker.conn != nil, false
	}
	if err := u.initialize(w, r, ws); err != nil {
		u.refused(r, fmt.Errorf("initializer: %w", err))
		ws.Close()
		return true, false
	}
	if u.opts.wsCompression != 0 {
		ws.SetCompressionLevel(u.opts.wsCompression)
	}
	ws.EnableWriteCompression(u.opts.wsCompress)
	u.accept(ws, hijacker.conn, head, query, entered)
	return true, true
}

// accept hands over an upgraded connection. gorilla goes on with it where its messages may be compressed, or the user's own code has
// touched it, or may have: else it has done its part. The connection has entered as entered.
func (u *upgrader) accept(ws *websocket.Conn, gather *wsio.GatherConn, head []byte, query url.Values, entered net.Addr) {
	refusal := u.acceptor.srv.reenter(entered, gather.RemoteAddr())
	take := func(pc PacketConn) {
		if refusal == "" {
			u.acceptor.srv.take(pc)
			return
		}
		u.acceptor.srv.depart()
		u.acceptor.srv.turnAway(pc, refusal)
	}
	if u.gorilla.EnableCompression || u.opts.wsUpgrader != nil || u.opts.wsInit != nil {
		take(newWSConn(ws, gather, head, query, u.opts))
		return
	}
	protocol := newWSProtocol(&upgrade{head, query, ws.Subprotocol()}, &u.opts)
	if refusal != "" || !u.opts.loops.accept(u.acceptor, gather.Conn, &protocol, nil, &frames) {
		take(newRawConn(gather.Conn, protocol, &u.opts))
	}
}

// refused counts a request that leads to no connection, and says so: whoever writes the client looks there first.
func (u *upgrader) refused(r *http.Request, err error) {
	u.acceptor.srv.refuse(RefusedRequest, requestAddr(r.RemoteAddr), "path", r.URL.Path, "origin", r.Header.Get("Origin"), "err", err)
}

// answer has gorilla, and the user's own code in it, answer the request. A panic refuses it.
func (u *upgrader) answer(h *gatherHijacker, r *http.Request) (ws *websocket.Conn, err error) {
	hook.Guard(func() { ws, err = u.gorilla.Upgrade(h, r, nil) }, func(value any, stack []byte) {
		err = u.panicked("upgrader", r, value, stack)
		if h.conn != nil {
			h.conn.Close()
			return
		}
		http.Error(h, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	})
	return ws, err
}

func (u *upgrader) panicked(who string, r *http.Request, value any, stack []byte) error {
	u.acceptor.srv.stats.panics.Add(1)
	u.opts.logger.Error("websocket "+who+" panicked", "conn", r.RemoteAddr, "panic", value, "stack", string(stack))
	return ErrHandlerPanic
}

// initialize runs the user's initializer, if there is one. A panic refuses the connection, as an error does.
func (u *upgrader) initialize(w http.ResponseWriter, r *http.Request, ws *websocket.Conn) (err error) {
	if u.opts.wsInit == nil {
		return nil
	}
	hook.Guard(func() { err = u.opts.wsInit(w, r, ws) }, func(value any, stack []byte) {
		err = u.panicked("initializer", r, value, stack)
	})
	return err
}

// gatherHijacker hands gorilla a connection that gathers writes. Through the response controller it also reaches
// connections behind middleware that only offers Unwrap.
type gatherHijacker struct {
	http.ResponseWriter
	timeout time.Duration
	client  net.Addr // whom a trusted proxy makes the request for; nil: nobody told
	conn    *wsio.GatherConn
}

func (h *gatherHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("%T can't be hijacked, and has no Unwrap that leads to one that can: %w", h.ResponseWriter, err)
	}
	if h.client != nil {
		conn = &namedConn{Conn: bare(conn), addr: h.client}
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
