// Package client connects to servers over WebSocket, TCP, UDP and Unix sockets and carries packets, whole whatever the
// transport. It is one link of a gateway, and a bot in tests.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// Client is a connection to a server, which can be run again after it ended. Its methods may be called from any
// goroutine, handlers included.
type Client struct {
	core   Core // static: run first, then cloned
	opts   options
	events events

	mu      sync.Mutex // guards the rest
	used    bool       // core was run
	current *connection
}

// NewWebsocket returns a client for a "ws://" or "wss://" URL. It connects when it is run.
func NewWebsocket(addr string, opts ...Option) *Client {
	return NewClient(newWSCore(addr, newOptions(opts)))
}

// NewTCP returns a client for "host:port". It connects when it is run.
func NewTCP(addr string, opts ...Option) *Client {
	return NewClient(&streamCore{network: "tcp", socket: socket{addr: addr, opts: newOptions(opts)}})
}

// NewUnixDomainSocket returns a client for the path of a Unix socket. It connects when it is run.
func NewUnixDomainSocket(addr string, opts ...Option) *Client {
	return NewClient(&streamCore{network: "unix", socket: socket{addr: addr, opts: newOptions(opts)}})
}

// NewClient returns a client with a transport of one's own.
func NewClient(core Core) *Client { return NewClientWith(core) }

// NewClientWith is NewClient with options. Those count that have nothing to do with the transport: WithLogger,
// WithMaxPacketSize, WithWriteBytes, and WithWriteTimeout as the bound of Close.
func NewClientWith(core Core, opts ...Option) *Client {
	c := &Client{core: core, opts: newOptions(opts)}
	if own, ok := core.(configured); ok {
		c.opts = own.options()
	}
	return c
}

// CloneClient returns a client for the same address with the same options, not connected and without handlers.
func CloneClient(client *Client) *Client {
	return &Client{core: client.core.Clone(), opts: client.opts}
}

// Run connects, and returns the error if that fails. With block it then waits for the connection's end and returns the
// reason, nil after an orderly one; without, it returns. A client that is running already is closed first, closed event
// included unless Run is called from a handler or callback. Errors: ErrBadAddress, ErrClosed (another Run or Close came in
// between), those of the network.
func (c *Client) Run(block ...bool) error { return c.RunByBufferSize(DefaultBufferSize, block...) }

// RunByBufferSize is Run with an outbound queue of size packets; size of 0 or less gives ErrBufferSize.
func (c *Client) RunByBufferSize(size int, block ...bool) error {
	if size <= 0 {
		return fmt.Errorf("%w: %d", ErrBufferSize, size)
	}
	return c.run(context.Background(), size, len(block) > 0 && block[0])
}

// RunContext is Run(true) that ends with ctx too, as Close ends it: what is queued is written first.
func (c *Client) RunContext(ctx context.Context) error { return c.run(ctx, DefaultBufferSize, true) }

func (c *Client) run(ctx context.Context, size int, block bool) error {
	next := newConnection(c, c.nextCore(), size)
	old := c.replace(next)
	if old != nil {
		old.giveWay(next)
	}
	stop := context.AfterFunc(ctx, func() { next.close(nil) })
	defer stop()
	if err := next.open(); err != nil {
		return err
	}
	if block {
		<-next.done
		return next.outcome()
	}
	return nil
}

// nextCore returns the client's core to the first Run, and a clone of it to each further one.
func (c *Client) nextCore() Core {
	c.mu.Lock()
	first := !c.used
	c.used = true
	c.mu.Unlock()
	if first {
		return c.core
	}
	return c.core.Clone()
}

// replace makes next the current connection, and returns the one before, nil if there is none.
func (c *Client) replace(next *connection) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current
	c.current = next
	return old
}

// release makes way for another connection if conn is still the current one.
func (c *Client) release(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == conn {
		c.current = nil
	}
}

func (c *Client) connection() *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Close writes what is queued, closes the socket and waits for the client's goroutines; a server that doesn't read makes
// that take the write timeout. It doesn't wait for the closed handlers, nor for another handler or callback that runs for
// longer than 50 ms, and so may be called from each of them. The closed event gets err. A client that isn't running is
// left alone.
func (c *Client) Close(err ...error) {
	conn := c.connection()
	if conn == nil {
		return
	}
	var reason error
	if len(err) > 0 {
		reason = err[0]
	}
	conn.close(reason)
	conn.join()
}

// Abort closes the socket at once, without writing what is queued, which gets ErrClosed, and doesn't wait. The closed
// event gets err.
func (c *Client) Abort(err error) {
	if conn := c.connection(); conn != nil {
		conn.because(err)
		conn.abort()
	}
}

// IsConnected reports whether the client is connected: from the opened event until its end began.
func (c *Client) IsConnected() bool {
	conn := c.connection()
	return conn != nil && conn.connected.Load()
}

// GetServerAddr returns the address the client was made for.
func (c *Client) GetServerAddr() string { return c.core.GetServerAddr() }

// MaxPacketSize returns the largest packet in bytes, without a gateway's header.
func (c *Client) MaxPacketSize() int { return c.opts.maxPacket }

// RaiseMaxPacketSize makes packets of n bytes pass in either direction, if the limit is lower; before Run.
func (c *Client) RaiseMaxPacketSize(n int) {
	c.opts.maxPacket = max(c.opts.maxPacket, n)
	if r, ok := c.core.(PacketRaiser); ok {
		r.RaisePacketLimit(n)
	}
}

// OnQuiet has quiet called, on the reading goroutine, each time when all packets that have been read were handed over, before it
// waits for more. It reports whether the client's transport can tell, and is for a client that was not run yet.
func (c *Client) OnQuiet(quiet func()) bool {
	q, ok := c.core.(quieter)
	if ok {
		q.onQuiet(quiet)
	}
	return ok
}

// KeepsNothing reports whether the client's transport lets go of a packet that it has written: one of somebody's own may not.
func (c *Client) KeepsNothing() bool {
	_, ok := c.core.(PacketsWriter)
	return ok
}

// KeepsBoundaries reports whether packets arrive as they were sent: false with RawFramer only.
func (c *Client) KeepsBoundaries() bool {
	b, ok := c.core.(boundless)
	return !ok || !b.raw()
}

// Reliable reports whether the client's transport keeps packets in order, and loses none while it is connected: false with NewUDP only.
func (c *Client) Reliable() bool {
	l, ok := c.core.(lossy)
	return !ok || !l.unreliable()
}

// Write queues packet and returns at once; packet may be reused then. On a WebSocket it is a binary message. Each callback
// is called exactly once: with nil when the bytes were handed to the kernel, on the goroutine that writes, and else with
// why they were not, maybe before Write returns: ErrNotConnected, ErrClosed, ErrQueueFull, ErrPacketTooLarge, the network's.
func (c *Client) Write(packet []byte, callback ...func(err error)) {
	c.WriteWS(frame.KindNone, packet, callback...)
}

// WriteWS is Write with a WebSocket type: 1 is text, 2 is binary; other transports ignore it.
func (c *Client) WriteWS(wst int, packet []byte, callback ...func(err error)) {
	p := frame.NewPacket(wst, bytes.Clone(packet), frame.JoinCallbacks(callback))
	if err := c.Enqueue(p); err != nil {
		c.finish(p, err)
	}
}

// Enqueue queues p, which the client owns from then on, and returns at once. If it returns an error the packet is still
// the caller's, and its callback is not called. Errors are those of Write.
func (c *Client) Enqueue(p *Packet) error { return c.enqueue(p, (*outq.Queue).Put) }

// Force is Enqueue that doesn't mind a full queue: for a few small packets that must not be dropped.
func (c *Client) Force(p *Packet) error { return c.enqueue(p, (*outq.Queue).Force) }

func (c *Client) enqueue(p *Packet, put func(*outq.Queue, *Packet) error) error {
	if err := frame.CheckSize(len(p.Bytes()), c.opts.maxPacket+frame.WriteHeadroom); err != nil {
		return err
	}
	conn := c.connection()
	if conn == nil || !conn.connected.Load() {
		return ErrNotConnected
	}
	err := put(conn.queue, p)
	if err == nil {
		conn.wake()
	}
	if errors.Is(err, ErrQueueFull) {
		return fmt.Errorf("client: %w", err)
	}
	return err
}
