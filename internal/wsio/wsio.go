// Package wsio reads and writes whole packets on WebSocket connections. Protocol and Raw do so by internal/wsframe, alike for servers
// and clients; Conn does by gorilla, for servers whose messages are compressed, or whose users have had gorilla's connection in
// their hands: writes are gathered, and what comes in is bounded before and after inflation.
package wsio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// controlTimeout bounds the wait for room to write a ping, a pong or a close frame.
const controlTimeout = time.Second

// ErrReadTimeout is what reading ends with when the peer was silent, or a packet unfinished, for too long.
var ErrReadTimeout = errors.New("nothing complete received in time")

// Conn reads and writes packets on a WebSocket connection: one goroutine reads, one writes, any closes.
type Conn struct {
	ws       *websocket.Conn
	net      *GatherConn
	limit    int           // largest packet, bytes; owned by the reading goroutine
	deadline time.Duration // for a packet or a pong to arrive; 0: none

	onControl func() // static once reading has begun; nil: nobody counts

	reading bool // inside a packet, where a pong doesn't extend the deadline; owned by the reading goroutine
	closing atomic.Bool
	ordered chan struct{} // holds a token while a frame is put, so that the end of a packet is known to lie before a pong behind it
	heard   atomic.Int64  // when anything whole was last received, in nanoseconds since start
	start   time.Time
}

// NewConn takes over ws, which was opened over gather. Packets above limit end the connection, and so does silence of
// deadline (0: never); a peer that answers pings isn't silent.
func NewConn(ws *websocket.Conn, gather *GatherConn, limit int, deadline time.Duration) *Conn {
	c := &Conn{ws: ws, net: gather, limit: limit, deadline: deadline, start: time.Now(), ordered: make(chan struct{}, 1)}
	ws.SetReadLimit(int64(limit))
	ws.SetPongHandler(func(string) error { c.hear(); return c.extend() })
	ws.SetPingHandler(func(data string) error {
		c.hear()
		err := c.control(websocket.PongMessage, []byte(data))
		if errors.Is(err, websocket.ErrCloseSent) {
			err = nil
		}
		return errors.Join(err, c.extend())
	})
	ws.SetCloseHandler(func(code int, text string) error {
		c.closing.Store(true)
		if code == websocket.CloseNoStatusReceived {
			return c.writeClose(nil)
		}
		return c.writeClose(websocket.FormatCloseMessage(code, ""))
	})
	return c
}

// OnControl has f called for each ping and pong that comes, on the goroutine that reads. It must be called before that begins.
func (c *Conn) OnControl(f func()) { c.onControl = f }

// hear notes that a ping or a pong has come.
func (c *Conn) hear() {
	c.heard.Store(c.now())
	if c.onControl != nil {
		c.onControl()
	}
}

// NetConn returns the connection below: TLS where there is TLS.
func (c *Conn) NetConn() net.Conn {
	conn := c.ws.NetConn()
	if gather, ok := conn.(*GatherConn); ok {
		return gather.Conn
	}
	return conn
}

// SetLimit changes the largest packet. It is for the goroutine that reads.
func (c *Conn) SetLimit(limit int) {
	c.limit = limit
	c.ws.SetReadLimit(int64(limit))
}

// Subprotocol returns what both sides agreed upon, "" if nothing.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

func (c *Conn) now() int64 { return int64(time.Since(c.start)) + 1 }

// extend gives the peer another deadline, unless a packet is under way or the connection is closing.
func (c *Conn) extend() error {
	if c.deadline <= 0 || c.reading || c.closing.Load() {
		return nil
	}
	err := c.ws.SetReadDeadline(time.Now().Add(c.deadline))
	if c.closing.Load() { // Shutdown's own deadline may just have been overwritten
		err = errors.Join(err, c.ws.SetReadDeadline(time.Now().Add(lingerTimeout)))
	}
	return err
}

// SilentFor returns for how long nothing whole was received.
func (c *Conn) SilentFor() time.Duration { return time.Duration(c.now() - c.heard.Load()) }

// Ping sends a ping.
func (c *Conn) Ping() error { return c.control(websocket.PingMessage, nil) }

// errNoRoom is why a control frame was not written.
var errNoRoom = errors.New("websocket: no room for a control frame in time")

// control writes a control frame.
func (c *Conn) control(kind int, payload []byte) error {
	timer := time.NewTimer(controlTimeout)
	defer timer.Stop()
	select {
	case c.ordered <- struct{}{}:
	case <-timer.C:
		return errNoRoom
	}
	defer func() { <-c.ordered }()
	return c.ws.WriteControl(kind, payload, time.Now().Add(controlTimeout))
}

var packetBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// ReadPacket returns the next text or binary message with its kind. The packet belongs to the caller.
func (c *Conn) ReadPacket() (int, []byte, error) {
	if err := c.extend(); err != nil {
		return 0, nil, err
	}
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return 0, nil, c.explain(err)
	}
	c.reading = true
	defer func() { c.reading = false }()
	buf := packetBuffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 64<<10 {
			buf.Reset()
			packetBuffers.Put(buf)
		}
	}()
	// gorilla's own limit is on what is on the wire: a compressed message inflates behind it.
	n, err := buf.ReadFrom(io.LimitReader(r, int64(c.limit)+1))
	if err != nil {
		return 0, nil, c.explain(err)
	}
	if n > int64(c.limit) {
		c.Shutdown(websocket.CloseMessageTooBig, "")
		return 0, nil, &frame.TooLargeError{Limit: c.limit}
	}
	c.heard.Store(c.now())
	return kind, bytes.Clone(buf.Bytes()[:n:n]), nil
}

// explain turns gorilla's errors into those that name what happened.
func (c *Conn) explain(err error) error {
	var timeout net.Error
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return &frame.TooLargeError{Limit: c.limit}
	case errors.As(err, &timeout) && timeout.Timeout() && !c.closing.Load():
		return fmt.Errorf("%w: %v", ErrReadTimeout, c.deadline)
	case errors.As(err, &closed):
		return explainClose(closed)
	}
	return err
}

// WritePackets writes packets with as few writes as gathering allows, and returns how many of them, from the first on,
// were handed to the kernel in full. Those of no kind go out as binary messages.
func (c *Conn) WritePackets(packets []*frame.Packet) (int, error) {
	const gatherLimit = 64 << 10
	buf := gatherBuffers.Get().(*[]byte)
	ends := make([]int, 0, len(packets))
	for done := 0; done < len(packets); {
		ends = ends[:0]
		c.net.begin((*buf)[:0])
		var err error
		for next := done; next < len(packets) && err == nil; next++ {
			if held := c.net.held(); held > 0 && held+len(packets[next].Bytes()) > gatherLimit {
				break
			}
			var end int
			if end, err = c.writeMessage(packets[next]); err == nil {
				ends = append(ends, end)
			}
		}
		n, used, flushErr := c.net.flush()
		if cap(used) <= 2*gatherLimit {
			*buf = used[:0]
		}
		whole := 0
		for whole < len(ends) && ends[whole] <= n {
			whole++
		}
		done += whole
		if err = errors.Join(err, flushErr); err != nil {
			return done, err
		}
	}
	gatherBuffers.Put(buf)
	return len(packets), nil
}

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// writeMessage puts a packet, and returns where it ends in what is held back.
func (c *Conn) writeMessage(p *frame.Packet) (end int, err error) {
	c.ordered <- struct{}{}
	defer func() { <-c.ordered }()
	kind, err := KindOf(p)
	switch {
	case err != nil:
		p.Refuse(err)
		err = nil
	case kind >= frame.KindClose:
		err = c.ws.WriteControl(kind, p.Bytes(), time.Now().Add(controlTimeout))
	default:
		err = c.writeData(kind, p)
	}
	return c.net.held(), err
}

// writeData writes a message, which is made once where many connections share it.
func (c *Conn) writeData(kind int, p *frame.Packet) error {
	shared := p.Shared()
	if shared == nil {
		return c.ws.WriteMessage(kind, p.Bytes())
	}
	message, err := shared.Encoded(wsKey(kind), func(payload []byte) (any, error) {
		return websocket.NewPreparedMessage(kind, payload)
	})
	if err != nil {
		return err
	}
	return c.ws.WritePreparedMessage(message.(*websocket.PreparedMessage))
}

// wsKey is what a shared payload's messages are kept under: their type.
type wsKey int

func (c *Conn) writeClose(payload []byte) error {
	err := c.control(websocket.CloseMessage, payload)
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

// Shutdown sends a close frame with code (0: 1000) and reason, and gives the peer a second to answer it.
func (c *Conn) Shutdown(code int, reason string) error {
	c.closing.Store(true)
	if code == 0 {
		code = websocket.CloseNormalClosure
	}
	err := c.writeClose(websocket.FormatCloseMessage(code, frame.CutText(reason, 123)))
	return errors.Join(err, c.ws.SetReadDeadline(time.Now().Add(lingerTimeout)))
}

// lingerTimeout is how long a connection that was closed here may still be read, for the peer's own close.
const lingerTimeout = time.Second

// Close closes the socket at once.
func (c *Conn) Close() error { return c.ws.Close() }

// Drain reads what the peer still sends and throws it away, until its end or for timeout.
func (c *Conn) Drain(timeout time.Duration) { frame.Drain(c.net.Conn, timeout) }
