package server

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/hook"
)

// Conn is a connection as one message sees it: its WebSocket type and message data are that message's, the rest is
// shared by all views of the connection. A handler may keep it and use it later, from any goroutine. Two views of one
// connection may differ as pointers: compare GetID. None of its methods blocks.
type Conn struct {
	c       *connection
	mu      sync.Mutex // guards the rest
	wst     int
	message map[string]any
}

func newConn(c *connection, kind int) *Conn { return &Conn{c: c, wst: kind} }

// views are made several at once: there is one for each message. Whoever keeps one keeps those beside it.
type views struct {
	all  [16]Conn
	used int
}

var spareViews = sync.Pool{New: func() any { return new(views) }}

// messageView returns a view for one message.
func (c *connection) messageView(kind int) *Conn {
	some := spareViews.Get().(*views)
	v := &some.all[some.used]
	if some.used++; some.used < len(some.all) {
		spareViews.Put(some)
	}
	v.c, v.wst = c, kind
	return v
}

// MessageView returns a view for one message of the WebSocket type kind (0: the type that the client last used).
func (c *Conn) MessageView(kind int) *Conn {
	if kind == 0 {
		kind = int(c.c.kind.Load())
	}
	return c.c.messageView(kind)
}

// View returns a view that is no message's, with the WebSocket type that the client last used.
func (c *Conn) View() *Conn { return c.c.detached() }

// GetID returns the remote address, or a numbered name such as "unix:7" where there is none. It is unique among the live
// connections of a server. Of a client behind a gateway it is 16 hex digits that stand for the gateway's process, a slash, and
// the client's address, or its name on the wire where the gateway told none; a move to another backend leaves it as it is. It is
// not for other clients' eyes. In every case "#" and a number follow where the ID is taken by a connection that has not quite
// ended, or the address is many clients'.
func (c *Conn) GetID() string { return c.c.id }

// GetIP returns the IP of the remote address, "" where there is none. Headers count where
// WithTrustedProxies says so, and nowhere else.
func (c *Conn) GetIP() string {
	addr := c.RemoteAddr()
	if addr == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return ""
	}
	return ap.Addr().WithZone("").Unmap().String()
}

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr {
	switch a := c.c.addr.(type) {
	case compactAddr:
		return net.TCPAddrFromAddrPort(netip.AddrPort(a))
	case *udpAddr:
		return net.UDPAddrFromAddrPort(netip.AddrPort(*a))
	}
	return c.c.addr
}

// compactAddr is a *net.TCPAddr that takes a third of the memory.
type compactAddr netip.AddrPort

func (a compactAddr) Network() string { return "tcp" }
func (a compactAddr) String() string  { return netip.AddrPort(a).String() }

// compact returns addr in less memory, where that can be.
func compact(addr net.Addr) net.Addr {
	a, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr
	}
	ap := a.AddrPort()
	ip := ap.Addr()
	if v4 := ip.Unmap(); v4.Is4() { // as net prints it
		ip = v4
	}
	if ip.String() != a.IP.String() && ip.Zone() == "" {
		return addr
	}
	return compactAddr(netip.AddrPortFrom(ip, ap.Port()))
}

// GetServer returns the server that accepted the connection.
func (c *Conn) GetServer() *Server { return c.c.srv }

// GetOpenTime returns when the connection was opened.
func (c *Conn) GetOpenTime() time.Time { return c.c.srv.made.Add(c.c.opened) }

// GetOnlineTime returns for how long the connection has been open.
func (c *Conn) GetOnlineTime() time.Duration { return time.Since(c.GetOpenTime()) }

// IsWebsocket reports whether the connection began with a WebSocket request. Of a client behind a gateway it is false, whatever
// the client speaks; GetWST tells.
func (c *Conn) IsWebsocket() bool { return c.c.head != nil }

// GetWebsocketRequest returns the request that the connection began with, parsed anew on each call; nil where there was
// none, as for a client behind a gateway. The header fields of the handshake itself are left out; of a head above 4 KiB the last ones are missing too.
func (c *Conn) GetWebsocketRequest() *http.Request {
	if c.c.head == nil {
		return nil
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.c.head)))
	if err != nil {
		return nil
	}
	if addr := c.RemoteAddr(); addr != nil {
		req.RemoteAddr = addr.String()
	}
	return req
}

// IsClosed reports whether the connection was closed: Close was called, or it has ended.
func (c *Conn) IsClosed() bool {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.ended || c.c.closing.Load()
}

// GetWST returns the WebSocket type of the message, and of what is written back: text or binary, 0 on other transports.
// Before the first message it is text.
func (c *Conn) GetWST() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wst
}

// SetWST sets the WebSocket type of what is written by this view from now on, and returns the view.
func (c *Conn) SetWST(wst int) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wst = wst
	return c
}

// SetData stores value under key for as long as the connection lives, and returns the view. nil removes the key. It stays here
// when a gateway moves the client to another backend.
func (c *Conn) SetData(key string, value any) *Conn {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	c.c.data = set(c.c.data, key, value)
	return c
}

// GetData returns what SetData stored under key, nil if nothing. The query parameters of a WebSocket connection's URL are
// there from the start: a string, or []string where one came more than once. Of a client behind a gateway it is what the
// gateway gave by gateway.WithOpenAttributes instead, a string each.
func (c *Conn) GetData(key string) any {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return c.c.data[key]
}

// SetMessageData stores value under key for this message only, and returns the view. nil removes the key.
func (c *Conn) SetMessageData(key string, value any) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.message = set(c.message, key, value)
	return c
}

// GetMessageData returns what SetMessageData stored under key for this message, nil if nothing.
func (c *Conn) GetMessageData(key string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.message[key]
}

func set(m map[string]any, key string, value any) map[string]any {
	if value == nil {
		delete(m, key)
		return m
	}
	if m == nil {
		m = map[string]any{}
	}
	m[key] = value
	return m
}

// For layers: Attachment returns what SetAttachment stored last, nil if nothing.
func (c *Conn) Attachment() any { return c.c.attachment.Load() }

// For layers: SetAttachment stores the connection's one value for the layer that owns the server: a gateway keeps its session
// here, where reading it costs next to nothing. Values of one connection must be of one type. Other code uses SetData.
func (c *Conn) SetAttachment(value any) { c.c.attachment.Store(value) }

// Write queues packet, of the view's WebSocket type, and returns at once; packet may be reused then. Each callback is
// called exactly once: with nil when the bytes were handed to the kernel, on the goroutine that writes, and else with why
// they were not, maybe before Write returns: ErrConnClosed, ErrSlowConsumer, ErrPacketTooLarge, the network's. An empty
// packet is a packet.
func (c *Conn) Write(packet []byte, callback ...func(err error)) {
	done := frame.JoinCallbacks(callback)
	if handlers := c.c.srv.events.writeBefore.All(); len(handlers) > 0 {
		var err error
		if packet, err = c.beforeWrite(packet, handlers); err != nil {
			c.c.wrote(done, err)
			return
		}
	}
	if len(packet) > c.c.srv.opts.warnSize {
		c.c.srv.log().Warn("large packet written", "conn", c.c.id, "bytes", len(packet))
	}
	if c.c.carried != nil {
		c.c.carry(c.GetWST(), packet, done)
		return
	}
	if done == nil {
		c.c.write(frame.BorrowPacket(c.GetWST(), packet))
		return
	}
	c.c.write(frame.NewPacket(c.GetWST(), bytes.Clone(packet), done))
}

func (c *Conn) beforeWrite(packet []byte, handlers []ConnectionWritePacketBeforeEventHandler) (_ []byte, err error) {
	hook.Guard(func() {
		for _, handler := range handlers {
			packet = handler(c.c.srv, c, packet)
		}
	}, func(value any, _ []byte) {
		err = ErrHandlerPanic
		c.c.srv.report(c, "ConnectionWritePacketBefore", value)
	})
	return packet, err
}

// Close ends the connection. What was written before is flushed, the peer is told (a WebSocket close frame, 1000; 1008 to a
// client behind a gateway), and the closed event gets err, nil if none is given. It returns at once, and only the first call
// counts.
func (c *Conn) Close(err ...error) {
	reason := closeReason{code: codeNormal}
	if len(err) > 0 && err[0] != nil {
		reason.err = err[0]
	}
	c.c.close(reason)
}

// CloseWith is Close with what a WebSocket peer is told: code, 1000 or 3000 to 4999, and reason, 123 bytes at most. To a client
// behind a gateway codes from 4000 to 4999 come through; any other becomes 1008.
func (c *Conn) CloseWith(code int, reason string, err ...error) {
	r := closeReason{code: code, text: reason}
	if len(err) > 0 {
		r.err = err[0]
	}
	c.c.close(r)
}

// Release ends the connection here; a client behind a gateway stays there, and its next packet opens it anew, here or on
// another endpoint. Of a direct client it is Close.
func (c *Conn) Release() { c.c.close(closeReason{code: codeNormal, released: true}) }

// Handoff asks the gateway to move the client to an endpoint called name, where state comes with it, and returns at once:
// the connection goes on until the gateway has done so, and is closed then. nil means that it was asked, not that there is such
// an endpoint: if there is none the connection stays, and nobody is told but the gateway's log. Errors: ErrNoGateway for a
// direct client, ErrConnClosed, and what is wrong with name or state.
func (c *Conn) Handoff(name string, state []byte) error {
	if c.c.carried == nil {
		return ErrNoGateway
	}
	if c.c.closing.Load() {
		return ErrConnClosed
	}
	return c.c.carried.carrier.Handoff(name, state)
}

// For layers: Carrier returns what carries the connection, nil where it has a socket of its own: Carrier() != nil is a client
// behind a gateway.
func (c *Conn) Carrier() Carrier {
	if c.c.carried == nil {
		return nil
	}
	return c.c.carried.carrier
}
