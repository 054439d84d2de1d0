package client

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// connection is one run of a client, from dialing to the last event. It has two goroutines: run reads and ends it all,
// write writes.
type connection struct {
	client *Client // static, as are the next two
	core   Core
	queue  *outq.Queue

	onLoop    *loopStream // of core; nil: a goroutine writes. Written before connected is set
	connected atomic.Bool
	closing   atomic.Bool
	ending    chan struct{} // closed when closing is set
	decided   chan struct{} // closed when open knows whether it is connected
	opened    chan struct{} // closed when the opened handlers have returned, or there won't be any
	joined    chan struct{} // closed when the goroutines have ended, but for the closed handlers
	done      chan struct{} // closed when everything has ended
	writing   sync.WaitGroup

	inOpened, inHandler, inCallback activity // the user's code, which join doesn't wait for

	mu          sync.Mutex // guards the rest
	established bool
	reason      error // of the end, the first one known
	reasoned    bool
	timer       *time.Timer // bounds closing
}

func newConnection(client *Client, core Core, size int) *connection {
	c := &connection{
		client: client, core: core, queue: outq.New(client.opts.writeBytes, size),
		ending: make(chan struct{}), decided: make(chan struct{}), opened: make(chan struct{}),
		joined: make(chan struct{}), done: make(chan struct{}),
	}
	if p, ok := core.(ponger); ok {
		p.onPong(c.pong)
	}
	if l, ok := core.(looping); ok {
		l.base().owner = c
	}
	return c
}

// open connects and runs the opened handlers.
func (c *connection) open() error {
	state := make(chan error, 2) // a Core's own word, and run's where it says none
	go c.run(state)
	err := <-state
	if err == nil {
		err = c.establish()
	}
	if err != nil {
		if c.closing.Load() { // by Close or another Run: what the core makes of that is no news
			err = ErrClosed
		}
		c.abort()
		close(c.decided)
		close(c.opened)
		<-c.done
		return err
	}
	close(c.decided)
	c.inOpened.begin()
	for _, handle := range c.client.events.opened.All() {
		c.guard("ConnectionOpened", func() { handle(c.client) })
	}
	c.inOpened.end()
	close(c.opened)
	return nil
}

// establish starts the writer, unless the connection was closed while it was dialing.
func (c *connection) establish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing.Load() {
		return ErrClosed
	}
	c.established = true
	if l, ok := c.core.(looping); ok {
		c.onLoop = l.base().onLoop
	}
	if c.onLoop == nil {
		c.writing.Go(c.write)
	}
	c.connected.Store(true)
	return nil
}

// wake has what is queued looked after.
func (c *connection) wake() {
	if c.onLoop != nil {
		c.onLoop.Wake()
	}
}

// run dials and reads until the end, then ends the writer and tells the handlers.
func (c *connection) run(state chan error) {
	c.readAll(state)
	select {
	case state <- c.unsaid():
	default:
	}
	<-c.decided // a connection that was made is opened, however soon it ended
	c.abort()
	<-c.opened
	c.writing.Wait()
	if c.onLoop != nil {
		_, _ = c.queue.Drive(nil, c.finish) // the queue's error: nothing is written any more
	}
	c.client.release(c)
	c.stopTimer()
	close(c.joined)
	c.tellClosed()
	close(c.done)
}

func (c *connection) stopTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
}

// unsaid is Run's error where the core ended without a word.
func (c *connection) unsaid() error {
	if err := c.outcome(); err != nil {
		return err
	}
	return ErrClosed
}

func (c *connection) tellClosed() {
	c.mu.Lock()
	established := c.established
	c.mu.Unlock()
	if !established {
		return
	}
	var reason any // an untyped nil where there is no error
	if err := c.outcome(); err != nil {
		reason = err
	}
	for _, handle := range c.client.events.closed.All() {
		c.guard("ConnectionClosed", func() { handle(c.client, reason) })
	}
}

// readAll runs the core, whose panic is its reason for the end.
func (c *connection) readAll(state chan error) {
	defer func() {
		if v := recover(); v != nil {
			err, ok := v.(error)
			if !ok {
				err = fmt.Errorf("client: core panicked: %v", v)
			}
			c.becauseOf(err)
		} else if r, ok := c.core.(reasoner); ok {
			c.becauseOf(r.err())
		}
	}()
	c.core.Run(state, c.receive)
}

// receive hands a packet to the handlers.
func (c *connection) receive(wst int, packet []byte) {
	if !c.enter() {
		return
	}
	for _, handle := range c.client.events.receive.All() {
		c.guard("ConnectionReceivePacket", func() { handle(c.client, wst, packet) })
	}
	c.inHandler.end()
}

func (c *connection) pong(delay time.Duration) {
	if !c.enter() {
		return
	}
	for _, handle := range c.client.events.pong.All() {
		c.guard("Pong", func() { handle(c.client, delay) })
	}
	c.inHandler.end()
}

// enter waits for the opened handlers, and reports whether those that run on the reading goroutine may still do so.
func (c *connection) enter() bool {
	<-c.opened
	if c.closing.Load() {
		return false
	}
	c.inHandler.begin()
	return true
}

// guard runs a handler; a panic ends the connection.
func (c *connection) guard(event string, f func()) {
	hook.Guard(f, func(value any, stack []byte) {
		c.client.opts.logger.Error("handler panicked", "event", event, "server", c.core.GetServerAddr(), "panic", value, "stack", string(stack))
		c.because(fmt.Errorf("client: %s handler panicked: %v", event, value))
		c.abort()
	})
}

// write writes what is queued until the end.
func (c *connection) write() {
	if err := c.queue.Run(c.writeBatch, c.finish); err != nil {
		c.abort()
		return
	}
	if e, ok := c.core.(ender); ok {
		e.shutdown()
		c.mu.Lock()
		c.timer.Reset(lingerTimeout)
		c.mu.Unlock()
		return
	}
	c.core.Close()
}

// writeBatch writes, and notes why that failed: the queue may have been aborted meanwhile, and then knows only of that.
func (c *connection) writeBatch(packets []*frame.Packet) (int, error) {
	n, err := c.writeSafely(packets)
	if err == nil {
		return n, nil
	}
	if r, ok := c.core.(reasoner); ok { // reading may have ended first, and be why writing fails
		c.becauseOf(r.err())
	}
	if !errors.Is(err, net.ErrClosed) { // closing the socket on this side is a consequence of the end, and not the reason
		c.because(err)
	}
	return n, err
}

// writeSafely makes an error of a Core's panic.
func (c *connection) writeSafely(packets []*frame.Packet) (n int, err error) {
	hook.Guard(func() { n, err = c.writePackets(packets) }, func(value any, stack []byte) {
		c.client.opts.logger.Error("core panicked", "server", c.core.GetServerAddr(), "panic", value, "stack", string(stack))
		err = fmt.Errorf("client: core panicked: %v", value)
	})
	return n, err
}

func (c *connection) writePackets(packets []*frame.Packet) (int, error) {
	if w, ok := c.core.(PacketsWriter); ok {
		return w.WritePackets(packets)
	}
	for i, p := range packets {
		if err := c.core.Write(p); err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

func (c *connection) finish(p *frame.Packet, err error) {
	c.inCallback.begin()
	c.client.finish(p, err)
	c.inCallback.end()
}

// finish reports a packet's outcome to its callback.
func (c *Client) finish(p *frame.Packet, err error) {
	hook.Guard(func() { p.Finish(err) }, func(value any, stack []byte) {
		c.opts.logger.Error("write callback panicked", "server", c.GetServerAddr(), "panic", value, "stack", string(stack))
	})
}
