package wsio

import (
	"net"
	"sync"
	"time"
)

// GatherConn is a net.Conn whose writes are held back between Begin and Flush. gorilla writes each frame on its own;
// between those two calls they become one write.
type GatherConn struct {
	net.Conn
	timeout time.Duration // for each write, static

	mu        sync.Mutex // guards the rest, and is held while writing: only this connection's own goroutines wait
	gathering bool
	buf       []byte
	broken    error // why the last write was cut short: whatever came behind it would end up inside a frame
}

// NewGatherConn wraps conn. Each write gets timeout to end, 0 is for ever.
func NewGatherConn(conn net.Conn, timeout time.Duration) *GatherConn {
	return &GatherConn{Conn: conn, timeout: timeout}
}

// Write holds p back, or writes it.
func (g *GatherConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gathering {
		g.buf = append(g.buf, p...)
		return len(p), nil
	}
	return g.writeLocked(p)
}

func (g *GatherConn) writeLocked(p []byte) (int, error) {
	if g.broken != nil {
		return 0, g.broken
	}
	if g.timeout > 0 {
		if err := g.Conn.SetWriteDeadline(time.Now().Add(g.timeout)); err != nil {
			return 0, err
		}
	}
	n, err := g.Conn.Write(p)
	g.broken = err
	return n, err
}

// SetWriteDeadline does nothing: each write has its own deadline, and gorilla would lift it.
func (g *GatherConn) SetWriteDeadline(time.Time) error { return nil }

// begin holds writes back from now on, in buf.
func (g *GatherConn) begin(buf []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gathering, g.buf = true, buf
}

// held returns how many bytes are held back.
func (g *GatherConn) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.buf)
}

// flush writes what was held back, and returns how much of it was written, and the buffer.
func (g *GatherConn) flush() (int, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gathering = false
	buf := g.buf
	g.buf = nil
	if len(buf) == 0 {
		return 0, buf, nil
	}
	n, err := g.writeLocked(buf)
	return n, buf, err
}
