package kcp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

const (
	readBuffer  = 2 << 10
	writeAtOnce = 32 << 10 // bytes of packets that go into one write
	answerTime  = time.Second
)

// Errors that connections end with.
var (
	// ErrSilent ends a connection whose peer gave no sign of life: its host is gone, or the way to it.
	ErrSilent = errors.New("kcp: peer is silent")
	// ErrWriteTimeout ends a connection whose peer made no room for more in the send window.
	ErrWriteTimeout = errors.New("kcp: write timeout")
	// ErrReplaced ends a connection whose client has begun a new session from the same address.
	ErrReplaced = errors.New("kcp: replaced by a new session of the same address")
	// ErrHandshakeTimeout is what a handshake ends with that took too long.
	ErrHandshakeTimeout = errors.New("kcp: handshake timeout")
)

// CloseError is the end of a connection that the peer gave another reason for than an orderly one.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("kcp: closed by the peer: %d %s", e.Code, e.Reason)
}

// conn is one end of a session. One goroutine reads, one writes, any may close.
type conn struct {
	session      *kcpgo.UDPSession // static, as are the next six
	writeTimeout time.Duration
	pingAfter    time.Duration
	deadAfter    time.Duration
	interval     time.Duration
	window       int    // for receiving
	onClose      func() // called once, by Close

	r     *bufio.Reader // the reading goroutine's, as are the next two
	limit int
	rest  int64 // bytes of a packet that was too large

	parts [][]byte // the writing goroutine's, as is the next
	heads []byte

	began    time.Time
	heard    atomic.Int64  // when bytes came last, since began
	readDone chan struct{} // closed when ReadPacket has returned an error
	closing  sync.Once
	control  sync.WaitGroup // the goroutine that writes what is due

	mu       sync.Mutex // guards the rest
	reason   error      // of the end, the first one known
	ended    bool       // Close has begun
	saidBye  bool       // CLOSE is on its way: no packet may follow
	due      [3][]byte  // PONG, PING and CLOSE to be written, the last one of each
	speaking bool
	asked    int64       // what heard was at the last ping
	timer    *time.Timer // looks for signs of life; nil: not yet
	lastCall *time.Timer // ends a session that is leaving; nil: it isn't
}

// The frames that are written in between.
const (
	duePong = iota
	duePing
	dueClose
)

func newConn(session *kcpgo.UDPSession, o *options, onClose func()) *conn {
	c := &conn{
		session: session, writeTimeout: o.writeTimeout, pingAfter: o.pingAfter, deadAfter: o.deadAfter, onClose: onClose,
		interval: o.interval, window: o.receiveWindow,
		limit: o.maxPacket, began: time.Now(), readDone: make(chan struct{}),
	}
	c.r = bufio.NewReaderSize(c, readBuffer)
	return c
}

// Read reads the stream that frames are on.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.session.Read(p)
	if err != nil {
		return n, c.explain(err)
	}
	c.heard.Store(int64(time.Since(c.began)))
	return n, nil
}

// explain returns why the connection ended, where that is known better than kcp-go knows it.
func (c *conn) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.reason != nil:
		return c.reason
	case errors.Is(err, io.ErrClosedPipe):
		return net.ErrClosed
	}
	return err
}

// ReadPacket returns the next packet, and sees to all other frames. io.EOF is an orderly end.
func (c *conn) ReadPacket() (kind int, packet []byte, err error) {
	for {
		kind, body, err := readFrame(c.r, c.limit)
		if err == nil && kind == typeData {
			return frame.KindNone, body, nil
		}
		if err == nil {
			err = c.handle(kind, body)
		}
		if err != nil {
			var large *frame.TooLargeError
			if errors.As(err, &large) {
				c.rest = int64(large.Size)
			}
			close(c.readDone)
			return 0, nil, err
		}
	}
}

// handle sees to a frame that is no packet.
func (c *conn) handle(kind byte, body []byte) error {
	switch kind {
	case typePing:
		c.say(duePong, appendFrame(nil, typePong, body))
		return nil
	case typePong:
		return nil
	case typeClose:
		return c.handleClose(body)
	}
	return fmt.Errorf("%w: type %d after the handshake", ErrBadFrame, kind)
}

func (c *conn) handleClose(body []byte) error {
	code, reason, err := parseClose(body)
	if err != nil {
		return err
	}
	if c.bye() {
		_ = c.writeLast(closeFrame(code, "")) // or the peer's own bound ends it
	}
	if code != codeNormal && code != codeGoingAway {
		return &CloseError{Code: code, Reason: reason}
	}
	return io.EOF
}

// Drain reads on after a packet that was too large and throws it all away, until the peer's CLOSE or for timeout.
func (c *conn) Drain(timeout time.Duration) {
	timer := time.AfterFunc(timeout, func() { c.fail(nil) })
	defer timer.Stop()
	for {
		if _, err := io.CopyN(io.Discard, c.r, c.rest); err != nil {
			return
		}
		kind, _, err := readFrame(c.r, c.limit)
		var large *frame.TooLargeError
		switch c.rest = 0; {
		case errors.As(err, &large):
			c.rest = int64(large.Size)
		case err != nil || kind == typeClose:
			return
		}
	}
}

// WritePackets hands packets to KCP, many with one call where they are small.
func (c *conn) WritePackets(packets []*frame.Packet) (written int, err error) {
	for written < len(packets) {
		if c.hasSaidBye() {
			return written, net.ErrClosed
		}
		n := c.gather(packets[written:])
		err := c.write(c.writeTimeout, c.parts...)
		clear(c.parts)
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// gather puts what goes into one write into parts, and returns how many packets that is.
func (c *conn) gather(packets []*frame.Packet) (n int) {
	c.parts, c.heads = c.parts[:0], c.heads[:0]
	for bytes := 0; n < len(packets); n++ {
		data := packets[n].Bytes()
		if bytes += headSize + len(data); n > 0 && bytes > writeAtOnce {
			break
		}
		at := len(c.heads)
		c.heads = appendHead(c.heads, typeData, len(data))
		c.parts = append(c.parts, c.heads[at:])
		if len(data) > 0 { // kcp-go refuses nothing at all
			c.parts = append(c.parts, data)
		}
	}
	return n
}

// write puts parts into the send queue, all of them or none. It waits for room for timeout, and ends the connection then: kcp-go's own
// deadlines are not for several writers.
func (c *conn) write(timeout time.Duration, parts ...[]byte) error {
	timer := time.AfterFunc(timeout, func() { c.fail(ErrWriteTimeout) })
	defer timer.Stop()
	if _, err := c.session.WriteBuffers(parts); err != nil {
		return c.explain(err)
	}
	return nil
}

func (c *conn) RemoteAddr() net.Addr { return c.session.RemoteAddr() }

// SetPacketLimit makes n bytes the largest packet.
func (c *conn) SetPacketLimit(n int) { c.limit = n }
