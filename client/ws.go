package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsCore connects over WebSocket.
type wsCore struct {
	socket
	addr    string
	opts    options
	report  func(delay time.Duration)
	offered string     // subprotocol; "": none
	ws      *wsio.Conn // written before the outcome is sent, then read only
}

var (
	_ Core       = (*wsCore)(nil)
	_ gatherer   = (*wsCore)(nil)
	_ reasoner   = (*wsCore)(nil)
	_ ender      = (*wsCore)(nil)
	_ ponger     = (*wsCore)(nil)
	_ configured = (*wsCore)(nil)
	_ negotiator = (*wsCore)(nil)
	_ secured    = (*wsCore)(nil)
)

func (c *wsCore) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	if err := c.dial(); err != nil {
		runState <- err
		return
	}
	pings := newPinger(c.ws)
	defer pings.stop()
	defer c.Close() // first, or a ping that waits for room would be waited for
	runState <- nil
	for {
		kind, packet, err := c.ws.ReadPacket()
		if err != nil {
			c.end(err)
			if errors.Is(err, ErrPacketTooLarge) { // closed on unread bytes, the socket would take the close frame back
				c.ws.Drain(lingerTimeout)
			}
			return
		}
		receive(kind, packet)
	}
}

func (c *wsCore) dial() error {
	u, err := url.Parse(c.addr)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%w %q: want ws://host:port/path or wss://host:port/path", ErrBadAddress, c.addr)
	}
	if c.opts.useTLS && u.Scheme == "ws" {
		return fmt.Errorf("%w %q: want wss:// with WithTLS", ErrBadAddress, c.addr)
	}
	ctx, cancel := c.dialing(c.opts)
	defer cancel()
	var gather *wsio.GatherConn
	var subprotocols []string
	if c.offered != "" {
		subprotocols = []string{c.offered}
	}
	dialer := websocket.Dialer{
		ReadBufferSize: linkReadBuffer, WriteBufferSize: 4 << 10, WriteBufferPool: new(sync.Pool),
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: c.opts.tls, HandshakeTimeout: c.opts.dialTimeout,
		Subprotocols: subprotocols,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.opts.dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			gather = wsio.NewGatherConn(conn, c.opts.writeTimeout)
			return gather, c.keep(gather) // gorilla heeds no ctx while it waits for the answer
		},
	}
	ws, resp, err := dialer.DialContext(ctx, c.addr, c.opts.header)
	switch {
	case err == nil:
	case resp != nil:
		return fmt.Errorf("client: websocket %s: %s: %w", c.addr, resp.Status, err)
	case atFault(err):
		return fmt.Errorf("%w %q: %w", ErrBadAddress, c.addr, err)
	default:
		return fmt.Errorf("client: websocket %s: %w", c.addr, err)
	}
	c.ws = wsio.NewConn(ws, gather, c.opts.maxPacket+frame.WriteHeadroom, 2*silenceBeforePing, c.report)
	return nil
}

func (c *wsCore) Write(packet *Packet) error {
	_, err := c.writePackets([]*Packet{packet})
	return err
}

func (c *wsCore) writePackets(packets []*Packet) (int, error) {
	n, err := c.ws.WritePackets(packets)
	if errors.Is(err, websocket.ErrCloseSent) { // in answer to the server's: the reader has the reason
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return n, err
}

func (c *wsCore) shutdown() {
	if c.ws.Shutdown(websocket.CloseNormalClosure, "") != nil {
		c.Close()
	}
}

func (c *wsCore) onPong(report func(time.Duration)) { c.report = report }
func (c *wsCore) GetServerAddr() string             { return c.addr }
func (c *wsCore) Clone() Core                       { return &wsCore{addr: c.addr, opts: c.opts} }
func (c *wsCore) options() options                  { return c.opts }

// pinger pings a server that has been silent, on a goroutine of its own.
type pinger struct {
	quit chan struct{}
	done sync.WaitGroup
}

func newPinger(ws *wsio.Conn) *pinger {
	p := &pinger{quit: make(chan struct{})}
	p.done.Go(func() { p.run(ws) })
	return p
}

func (p *pinger) run(ws *wsio.Conn) {
	tick := time.NewTicker(silenceBeforePing / 2)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			if ws.SilentFor() >= silenceBeforePing {
				_ = ws.Ping() // one that finds no room is no news: the reader learns of the end by its deadline
			}
		}
	}
}

func (p *pinger) stop() {
	close(p.quit)
	p.done.Wait()
}
