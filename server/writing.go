package server

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// How a connection writes. A client's packet goes to the kernel on the goroutine that calls Write, where the kernel takes it at
// once; what it doesn't take, and packets whose callback somebody waits for, are a goroutine's that ends when nothing is left. A
// link's packets are a goroutine's that is there for good, and for which many gather; what was written while the link's own packets
// were handled goes out on the goroutine that reads it, with one write. Everything of connections that can only write and wait, TLS
// and whatever a transport of somebody's own accepts, is a goroutine's.

// eager is implemented by connections that can write without waiting.
type eager interface {
	// canWriteNow reports whether this one can; always the same.
	canWriteNow() bool
	// writeNow is WritePackets that returns early, without an error, where it would have to wait. Whoever writes next has to
	// begin with the packets that are left.
	writeNow(packets []*Packet) (written int, err error)
}

// controller is implemented by connections that hear pings and pongs, which count, and may answer them by way of the queue.
type controller interface {
	onControl(c *connection)
}

// waiter is implemented by connections that tell when they have handed over all that was read.
type waiter interface {
	// onWait has wait called, on the reading goroutine, before each read from the network.
	onWait(wait func())
	// buffered returns how many bytes were read and not handed over.
	buffered() int
}

// write queues a packet of the connection.
func (c *connection) write(p *frame.Packet) {
	if err := frame.CheckSize(len(p.Bytes()), c.srv.maxWrite); err != nil {
		c.refuse(p, err)
		return
	}
	err := c.out.Put(p)
	if errors.Is(err, outq.ErrFull) && c.eager && !c.link { // what only gathers is no sign of a slow client
		c.out.Loosen()
		c.flush(true)
		err = c.out.Put(p)
	}
	if err == nil {
		c.flush(true)
		return
	}
	if errors.Is(err, outq.ErrFull) {
		err = ErrSlowConsumer
		c.overflow(err)
	}
	c.refuse(p, err)
}

// refuse ends a packet that was not queued.
func (c *connection) refuse(p *frame.Packet, err error) {
	c.finish(p, err)
	p.Recycle()
}

// writeControl queues a ping or a pong. One that finds no room is no news: a peer that is flooded with them, and doesn't read, is
// told nothing.
func (c *connection) writeControl(kind int, payload []byte) {
	if p := frame.BorrowPacket(kind, payload); c.out.Put(p) == nil {
		c.flush(true)
	} else {
		p.Recycle()
	}
}

// flush sees to what is queued. inline: the caller may hold what a packet's callback wants.
func (c *connection) flush(inline bool) {
	if c.onLoop != nil {
		c.onLoop.Wake()
		return
	}
	if !c.eager || c.link {
		c.startWriter()
		return
	}
	c.pump(inline)
}

// pump writes what the kernel takes at once, and leaves the rest to a goroutine.
func (c *connection) pump(inline bool) { c.pumped(c.out.Pump(c.writeNow, c.finish, inline)) }

func (c *connection) pumped(more bool, err error) {
	c.loseBy(err)
	if more {
		c.startWriter()
	}
}

// loseBy ends the connection if err is what went wrong while writing, and reports whether it is.
func (c *connection) loseBy(err error) bool {
	if err == nil {
		return false
	}
	var failed *writeError // not before: it is on the heap
	if !errors.As(err, &failed) {
		return false
	}
	c.lose(failed.err)
	return true
}

func (c *connection) writeNow(packets []*Packet) (n int, err error) {
	defer c.recoverWrite(&n, &err)
	return c.pc.(eager).writeNow(packets)
}

func (c *connection) writeWaiting(packets []*Packet) (n int, err error) {
	defer c.recoverWrite(&n, &err)
	return c.pc.WritePackets(packets)
}

// recoverWrite is deferred around writes: it marks errors, and makes one of a panic: a framer's, or a transport's of somebody's own.
func (c *connection) recoverWrite(n *int, err *error) {
	if value := recover(); value != nil {
		c.srv.stats.panics.Add(1)
		c.srv.log().Error("transport panicked", "conn", c.id, "panic", value, "stack", string(debug.Stack()))
		*n, *err = 0, fmt.Errorf("%w: %v", ErrHandlerPanic, value)
	}
	*err = asWriteError(*err)
}

// isClosed reports whether err says no more than that this side has closed the socket.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) && !errors.Is(err, ErrHandlerPanic)
}

// asWriteError marks what went wrong while writing. A socket that was closed already is no news.
func asWriteError(err error) error {
	if err == nil || isClosed(err) {
		return err
	}
	return &writeError{err}
}

// hold lets what is written gather until release. On an event loop it gathers anyway.
func (c *connection) hold() {
	if c.onLoop == nil {
		c.out.Hold()
	}
}

// release ends a hold. A link's callbacks, which are many clients', are not its reader's to run.
func (c *connection) release() {
	switch {
	case c.onLoop != nil:
	case !c.eager:
		if c.out.Release() {
			c.startWriter()
		}
	case c.out.Unhold():
		c.pump(c.link)
	}
}

// How long handlers may run before what they have written no longer waits for the others of their batch. A link's batch is many
// clients' packets.
const (
	holdLimit     = time.Millisecond
	linkHoldLimit = 4 * time.Millisecond
)

// batch gathers what is written to a connection while it hands over several packets that came with one read.
type batch struct {
	c     *connection
	from  waiter // nil: it can't tell
	limit time.Duration
	held  bool
	timer *time.Timer // bounds the hold
}

func (c *connection) gatherWhileReading() *batch {
	b := &batch{c: c, limit: holdLimit}
	if c.link {
		b.limit = linkHoldLimit
	}
	if w, ok := c.pc.(waiter); ok && (c.eager || c.link) {
		b.from = w
		w.onWait(b.end)
	}
	return b
}

// more begins to gather, where another packet seems to be there already, and on links.
func (b *batch) more() {
	if b.from == nil || b.held || !b.c.link && b.from.buffered() == 0 {
		return
	}
	b.held = true
	b.c.hold()
	if b.timer == nil {
		b.timer = time.AfterFunc(b.limit, b.c.loosen)
	} else {
		b.timer.Reset(b.limit)
	}
}

func (b *batch) end() {
	if b.held {
		b.held = false
		b.timer.Stop()
		b.c.release()
	}
}

// loosen writes what is held.
func (c *connection) loosen() {
	if c.onLoop == nil {
		c.out.Loosen()
		c.flush(false)
	}
}

// withoutMark is asWriteError's argument.
func withoutMark(err error) error {
	var marked *writeError
	if errors.As(err, &marked) {
		return marked.err
	}
	return err
}

// startWriter starts the goroutine that writes, unless it runs or reading is over. A client that is never written to
// has none.
func (c *connection) startWriter() {
	if c.onLoop != nil {
		c.onLoop.Wake()
		return
	}
	if s, ok := c.pc.(*udpSession); ok {
		s.wake()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writerDone == nil && !c.ended {
		c.writerDone = make(chan struct{})
		go c.writeLoop(c.writerDone)
	}
}

func (c *connection) writeLoop(done chan struct{}) {
	defer close(done)
	var failed error
	write := func(packets []*frame.Packet) (int, error) {
		n, err := c.writeWaiting(packets)
		if failed = err; err != nil {
			failed = withoutMark(err)
		}
		return n, err
	}
	if resigned, err := c.runQueue(write); err != nil {
		// A socket that was closed already, or a peer that said good-bye, is the reader's to report.
		if failed != nil && !isClosed(failed) {
			c.lose(failed)
		}
		return
	} else if resigned {
		return
	}
	reason := c.whyClosed()
	if err := c.pc.Shutdown(reason.code, reason.text); err != nil {
		c.pc.Close()
		return
	}
	c.limitClosing(lingerTimeout)
}

// runQueue writes until the queue was closed and is empty, or, where whoever writes next can do so by itself, until it is empty: it
// has resigned then.
func (c *connection) runQueue(write outq.WriteFunc) (resigned bool, err error) {
	if !c.eager || c.link {
		return false, c.out.Run(write, c.finish)
	}
	for {
		if err := c.out.RunOut(write, c.finish); err != nil {
			return false, err
		}
		if resigned, closed := c.resign(); resigned || closed {
			return resigned, nil
		}
	}
}

// resign ends the writer where there is nothing to write. closed: nothing will be either.
func (c *connection) resign() (resigned, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resigned, closed = c.out.Resign()
	if resigned {
		c.writerDone = nil
	}
	return resigned, closed
}
