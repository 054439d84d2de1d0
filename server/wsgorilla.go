package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsConn is a PacketConn over WebSocket that gorilla reads and writes.
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
	_ controller = (*wsConn)(nil)
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

// onControl has pings and pongs count as packets.
func (c *wsConn) onControl(client *connection) { c.OnControl(func() { client.tooFast(0) }) }

func (c *wsConn) SetPacketLimit(n int) { c.SetLimit(n) }
func (c *wsConn) RemoteAddr() net.Addr { return c.remote }
func (c *wsConn) requestHead() []byte  { return c.head }

func (c *wsConn) query() url.Values { return c.params }
func (c *wsConn) forget()           { c.head, c.params = nil, nil }
