package client

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// activity counts the beginnings and the ends of user's code: it is odd while such code is running.
type activity struct{ atomic.Uint64 }

func (a *activity) begin() { a.Add(1) }
func (a *activity) end()   { a.Add(1) }

// join waits for the goroutines, and reports whether they have ended. It gives up where user's code keeps one of them: that
// code may be the caller, or wait for it.
func (c *connection) join() bool {
	tick := time.NewTicker(userPatience)
	defer tick.Stop()
	for last := c.running(); ; {
		select {
		case <-c.joined:
			return true
		case <-tick.C:
		}
		now := c.running()
		for i := range now {
			if now[i] == last[i] && now[i]%2 == 1 { // the same call, all the time
				return false
			}
		}
		last = now
	}
}

func (c *connection) running() [3]uint64 {
	return [...]uint64{c.inOpened.Load(), c.inHandler.Load(), c.inCallback.Load()}
}

// giveWay ends the connection before next begins. Its closed handlers are waited for too, so that they don't run beside
// next's opened ones, unless one of them overtakes next, or the caller may be a handler of this connection.
func (c *connection) giveWay(next *connection) {
	c.close(nil)
	if !c.join() {
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

// becauseOf notes why reading has ended. io.EOF is no reason: the end was orderly, unless the writer knows better. Of a
// reset the kernel tells only once, and whoever asks after that, reader or writer, gets less.
func (c *connection) becauseOf(err error) {
	if err != nil && !errors.Is(err, io.EOF) {
		c.because(err)
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
		c.timer = time.AfterFunc(d, c.core.Close)
	}
	c.connected.Store(false)
	return first, c.established
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
	c.wake()
}

// abort ends the connection now.
func (c *connection) abort() {
	c.beginClosing(c.client.opts.writeTimeout)
	c.queue.Abort(ErrClosed)
	c.core.Close()
}
