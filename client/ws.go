package client

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsCore connects over WebSocket: gorilla asks for it, and leaves the connection then.
type wsCore struct {
	socket
	wsProtocol
	offered string // subprotocol; "": none

	agreed string    // subprotocol. Written before the outcome is sent, then read only, as is the next
	raw    *wsio.Raw // nil: on a loop

	said    chan struct{} // closed when a close frame was written, or won't be
	sayOnce sync.Once
}

var (
	_ Core          = (*wsCore)(nil)
	_ PacketsWriter = (*wsCore)(nil)
	_ reasoner      = (*wsCore)(nil)
	_ ender         = (*wsCore)(nil)
	_ ponger        = (*wsCore)(nil)
	_ quieter       = (*wsCore)(nil)
	_ configured    = (*wsCore)(nil)
	_ PacketRaiser  = (*wsCore)(nil)
	_ negotiator    = (*wsCore)(nil)
	_ secured       = (*wsCore)(nil)
	_ looping       = (*wsCore)(nil)
	_ protocol      = (*wsCore)(nil)
)

func newWSCore(addr string, opts options) *wsCore {
	return &wsCore{socket: socket{addr: addr, opts: opts}, said: make(chan struct{})}
}

func (c *wsCore) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	if err := c.dial(); err != nil {
		runState <- err
		return
	}
	defer c.Close()
	runState <- nil
	if c.onLoop != nil {
		c.onLoop.run(receive)
		return
	}
	for {
		kind, packet, err := c.raw.ReadPacket()
		if err != nil {
			c.end(err)
			c.tell(err)
			return
		}
		receive(kind, packet)
	}
}

// target returns the address's URL.
func (c *wsCore) target() (*url.URL, error) {
	u, err := url.Parse(c.addr)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%w %q: want ws://host:port/path or wss://host:port/path", ErrBadAddress, c.addr)
	}
	if c.opts.useTLS && u.Scheme == "ws" {
		return nil, fmt.Errorf("%w %q: want wss:// with WithTLS", ErrBadAddress, c.addr)
	}
	return u, nil
}

func (c *wsCore) dial() error {
	u, err := c.target()
	if err != nil {
		return err
	}
	ctx, cancel := c.dialing(c.opts)
	defer cancel()
	conn, err := c.upgrade(ctx, u)
	if err != nil {
		return err
	}
	c.begin(&c.socket)
	if err := c.moveToLoop(conn.Conn, c, &c.style, conn.early()); err != nil || c.onLoop != nil {
		return err
	}
	c.raw = &wsio.Raw{}
	c.raw.Init(conn.Conn, &c.Protocol, wsSilence, linkReadBuffer, frame.NewWaitingOutbound(conn.Conn, &c.style, c.opts.writeTimeout))
	c.raw.Put(conn.early())
	c.raw.OnWait(c.quiet)
	return nil
}

// upgrade opens a connection, over a proxy where the environment names one, and makes a WebSocket of it.
func (c *wsCore) upgrade(ctx context.Context, u *url.URL) (*upgradeConn, error) {
	var conn *upgradeConn
	open := func(ctx context.Context, network, addr string) (net.Conn, error) {
		below, err := c.opts.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn = newUpgradeConn(below, nil)
		if u.Scheme == "wss" {
			conn.config = c.opts.tlsFor(u.Hostname())
		}
		return conn, c.keep(below) // gorilla heeds no ctx while it waits for the answer
	}
	dialer := websocket.Dialer{
		ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, WriteBufferPool: new(sync.Pool), // for the answer's head only
		Proxy: c.opts.proxy, TLSClientConfig: c.opts.tls, HandshakeTimeout: c.opts.dialTimeout,
		NetDialContext: open, NetDialTLSContext: open,
	}
	if c.offered != "" {
		dialer.Subprotocols = []string{c.offered}
	}
	ws, resp, err := dialer.DialContext(ctx, c.addr, c.opts.header)
	if err == nil && resp.Header.Get("Sec-Websocket-Extensions") != "" { // RFC 6455, section 4.1: none was offered
		err = fmt.Errorf("%w: extensions that were not asked for", websocket.ErrBadHandshake)
	}
	switch {
	case err == nil:
		c.agreed = ws.Subprotocol()
		return conn, nil
	case resp != nil:
		return nil, fmt.Errorf("client: websocket %s: %s: %w", c.addr, resp.Status, err)
	case atFault(err):
		return nil, fmt.Errorf("%w %q: %w", ErrBadAddress, c.addr, err)
	}
	return nil, fmt.Errorf("client: websocket %s: %w", c.addr, err)
}

func (c *wsCore) Write(packet *Packet) error {
	_, err := c.WritePackets([]*Packet{packet})
	return err
}

func (c *wsCore) WritePackets(packets []*Packet) (int, error) {
	if c.onLoop != nil {
		return c.onLoop.writePackets(packets)
	}
	return c.raw.WritePackets(packets)
}

// tell tells the server why reading has ended, where it can be told. The writer does it, behind what it has to write anyway.
func (c *wsCore) tell(err error) {
	payload, fault, ok := c.lastPayload(err)
	kind := frame.KindClose
	if !ok {
		if !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || c.controls.Load() == 0 {
			return
		}
		kind = frame.NoPacket // which is refused when pongs, to a server that has ended its side, were written
	}
	_ = c.owner.queue.Force(frame.NewPacket(kind, payload, func(error) { c.noteSaid() })) // closed: the writer will say so itself
	timer := time.NewTimer(lingerTimeout)
	defer timer.Stop()
	select {
	case <-c.said:
	case <-timer.C:
		return
	}
	if fault { // closed on unread bytes, the socket would take the close frame back
		c.raw.Drain(lingerTimeout)
	}
}

func (c *wsCore) noteSaid() { c.sayOnce.Do(func() { close(c.said) }) }

// shutdown says good-bye where nothing is written any more, and gives the server a second to do so too.
func (c *wsCore) shutdown() {
	payload, _, _ := c.lastPayload(nil)
	if c.raw.Shutdown(c.closeFrame(payload)) != nil {
		c.Close()
	}
	c.noteSaid()
}

// Close ends the connection, or dialing.
func (c *wsCore) Close() {
	c.socket.Close()
	c.noteSaid()
}

// mayLoop: TLS is a goroutine's.
func (c *wsCore) mayLoop() bool {
	u, err := c.target()
	return err == nil && u.Scheme == "ws"
}

func (c *wsCore) Clone() Core { return newWSCore(c.addr, c.opts) }
