package client

import (
	"errors"
	"fmt"
	"io"
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

	connected atomic.Bool
	closing   atomic.Bool
	ending    chan struct{} // closed when closing is set
	decided   chan struct{} // closed when open knows whether it is connected
	opened    chan struct{} // closed when the opened handlers have returned, or there won't be any
	done      chan struct{} // closed when everything has ended
	writing   sync.WaitGroup

	// Where the user's code is running right now: join doesn't wait for it.
	inOpened, inHandler, inCallback, inClosed atomic.Bool

	mu          sync.Mutex // guards the rest
	idle        sync.Cond  // signalled, while closing, when join may have to look again
	established bool
	ended       bool
	reason      error // of the end, the first one known
	reasoned    bool
	timer       *time.Timer // bounds closing
	expired     bool        // the timer has fired
}

func newConnection(client *Client, core Core, size int) *connection {
	c := &connection{
		client: client, core: core, queue: outq.New(client.opts.writeBytes, size),
		ending: make(chan struct{}), decided: make(chan struct{}), opened: make(chan struct{}), done: make(chan struct{}),
	}
	c.idle.L = &c.mu
	if p, ok := core.(ponger); ok {
		p.onPong(c.pong)
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
	c.mark(&c.inOpened, true)
	for _, handle := range c.client.events.opened.All() {
		c.guard("ConnectionOpened", func() { handle(c.client) })
	}
	c.mark(&c.inOpened, false)
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
	c.connected.Store(true)
	c.writing.Go(c.write)
	return nil
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
	c.client.release(c)
	c.mark(&c.inClosed, true)
	c.tellClosed()
	c.mu.Lock()
	c.ended = true
	c.timer.Stop()
	c.idle.Broadcast()
	c.mu.Unlock()
	close(c.done)
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

// readAll runs the core, whose panic is its reason for the end. io.EOF is an orderly one.
func (c *connection) readAll(state chan error) {
	defer func() {
		var err error
		if v := recover(); v != nil {
			var ok bool
			if err, ok = v.(error); !ok {
				err = fmt.Errorf("client: core panicked: %v", v)
			}
		} else if r, ok := c.core.(reasoner); ok {
			err = r.err()
		} else {
			return
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		c.because(err)
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
	c.mark(&c.inHandler, false)
}

func (c *connection) pong(delay time.Duration) {
	if !c.enter() {
		return
	}
	for _, handle := range c.client.events.pong.All() {
		c.guard("Pong", func() { handle(c.client, delay) })
	}
	c.mark(&c.inHandler, false)
}

// enter waits for the opened handlers, and reports whether those that run on the reading goroutine may still do so.
func (c *connection) enter() bool {
	<-c.opened
	if c.closing.Load() {
		return false
	}
	c.mark(&c.inHandler, true)
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

// mark notes where the user's code runs, and lets join look.
func (c *connection) mark(where *atomic.Bool, running bool) {
	where.Store(running)
	if c.closing.Load() {
		c.mu.Lock()
		c.idle.Broadcast()
		c.mu.Unlock()
	}
}

// join waits for the goroutines, unless the user's code is running on one of them: that code may be the caller, or wait
// for it. Callbacks that begin later are waited for as well, or what is queued behind them would not be written on
// return, but only until the time for closing is over: the caller may hold what they wait for.
func (c *connection) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	caller := c.inCallback.Load()
	for !c.ended && !c.inOpened.Load() && !c.inHandler.Load() && !c.inClosed.Load() &&
		!(c.inCallback.Load() && (caller || c.expired)) {
		c.idle.Wait()
	}
}

// giveWay ends the connection before next begins. Its closed handlers are waited for too, so that they don't run beside
// next's opened ones, unless one of them overtakes next, or the caller may be code of this connection.
func (c *connection) giveWay(next *connection) {
	inside := c.inOpened.Load() || c.inHandler.Load() || c.inCallback.Load()
	c.close(nil)
	c.join()
	if inside {
		return
	}
	limit := time.NewTimer(c.client.opts.writeTimeout)
	defer limit.Stop()
	select {
	case <-c.done:
	case <-next.ending:
	case <-limit.C: // the caller may hold what a handler waits for
	}
}

// because notes the reason for the end; the first one stays.
func (c *connection) because(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reasoned {
		c.reason, c.reasoned = err, true
	}
}

// outcome is the reason for the end, nil after an orderly one.
func (c *connection) outcome() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// beginClosing reports whether this call was the first to close; if so the socket is closed after d, whatever else happens.
func (c *connection) beginClosing(d time.Duration) (first, established bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = !c.closing.Swap(true)
	if first {
		close(c.ending)
		c.timer = time.AfterFunc(d, c.expire)
	}
	c.connected.Store(false)
	return first, c.established
}

// expire ends closing: it took too long.
func (c *connection) expire() {
	c.core.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = true
	c.idle.Broadcast()
}

// close ends the connection after what is queued was written.
func (c *connection) close(err error) {
	c.because(err)
	if first, established := c.beginClosing(c.client.opts.writeTimeout); !first {
		return
	} else if !established {
		c.queue.Abort(ErrClosed)
		c.core.Close()
		return
	}
	c.queue.Close(ErrClosed)
}

// abort ends the connection now.
func (c *connection) abort() {
	c.beginClosing(c.client.opts.writeTimeout)
	c.queue.Abort(ErrClosed)
	c.core.Close()
}

// write writes what is queued until the end.
func (c *connection) write() {
	if err := c.queue.Run(c.writeBatch, c.finish); err != nil {
		// A socket that was closed on this side is a consequence of the end, and not the reason.
		if !errors.Is(err, net.ErrClosed) {
			c.because(err)
		}
		c.abort()
		return
	}
	if e, ok := c.core.(ender); ok {
		e.shutdown()
		c.mu.Lock()
		if !c.ended {
			c.timer.Reset(lingerTimeout)
		}
		c.mu.Unlock()
		return
	}
	c.core.Close()
}

func (c *connection) writeBatch(packets []*frame.Packet) (int, error) {
	if g, ok := c.core.(gatherer); ok {
		return g.writePackets(packets)
	}
	for i, p := range packets {
		if err := c.core.Write(p); err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

func (c *connection) finish(p *frame.Packet, err error) {
	c.mark(&c.inCallback, true)
	c.client.finish(p, err)
	c.mark(&c.inCallback, false)
}

// finish reports a packet's outcome to its callback.
func (c *Client) finish(p *frame.Packet, err error) {
	hook.Guard(func() { p.Finish(err) }, func(value any, stack []byte) {
		c.opts.logger.Error("write callback panicked", "server", c.GetServerAddr(), "panic", value, "stack", string(stack))
	})
}
