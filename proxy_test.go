package gateway_test

import (
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a gateway and an endpoint and cuts connections in the middle of a packet.
type proxy struct {
	target  string
	address string

	down atomic.Int64 // bytes carried from the endpoint

	mu    sync.Mutex // guards the rest
	pipes []*pipe
}

// pipe is one connection through the proxy.
type pipe struct {
	near, far net.Conn // to the gateway, to the endpoint
	cut       chan struct{}
	once      sync.Once
	up, down  chan struct{} // closed when that direction has ended
}

func newProxy(t testing.TB, target string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{target: target, address: ln.Addr().String()}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.join(conn)
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		for p.cutOne(0) {
		}
	})
	return p
}

func (p *proxy) join(near net.Conn) {
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		near.Close()
		return
	}
	c := &pipe{near: near, far: far, cut: make(chan struct{}), up: make(chan struct{}), down: make(chan struct{})}
	p.mu.Lock()
	p.pipes = append(p.pipes, c)
	p.mu.Unlock()
	go c.carryUp()
	go func() {
		defer close(c.down)
		io.Copy(io.MultiWriter(counter{&p.down}, c.near), c.far) // whoever has got it finds it counted
		c.near.(*net.TCPConn).CloseWrite()
	}()
	go func() {
		<-c.up
		<-c.down
		p.forget(c)
	}()
}

// forget closes a connection that has ended without being cut: a link whose handshake took too long, for one.
func (p *proxy) forget(c *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.pipes, c); i >= 0 {
		p.pipes = slices.Delete(p.pipes, i, i+1)
		c.near.Close()
		c.far.Close()
	}
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// carryUp carries what the gateway sends. When it is cut, the endpoint gets half of what came last.
func (c *pipe) carryUp() {
	defer close(c.up)
	buf := make([]byte, 1000) // no multiple of a packet: reads end inside one
	for {
		n, err := c.near.Read(buf)
		select {
		case <-c.cut:
			c.far.Write(buf[:n/2])
			return
		default:
		}
		if _, writeErr := c.far.Write(buf[:n]); err != nil || writeErr != nil {
			c.far.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pipes)
}

// cutOne cuts the i-th connection, and reports false if there is none. What had passed the proxy is read by the endpoint
// before the gateway learns of it, as it is where the cut is far from the gateway.
func (p *proxy) cutOne(i int) bool {
	p.mu.Lock()
	if len(p.pipes) == 0 {
		p.mu.Unlock()
		return false
	}
	i %= len(p.pipes)
	c := p.pipes[i]
	p.pipes = append(p.pipes[:i:i], p.pipes[i+1:]...)
	p.mu.Unlock()
	c.once.Do(func() { close(c.cut) })
	c.near.(*net.TCPConn).CloseRead()
	<-c.up
	c.far.(*net.TCPConn).CloseWrite()
	<-c.down // the endpoint has read everything, and closed
	c.near.(*net.TCPConn).SetLinger(0)
	c.near.Close()
	c.far.Close()
	return true
}
