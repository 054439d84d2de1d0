package server

import (
	"errors"
	"io"
	"time"

	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// finishReading ends writing too.
func (c *connection) finishReading(err error) {
	c.endWriting(err)
	c.pc.Close()
}

// outcome is what the closed event reports: nil for an orderly end. Valid once reading is over.
func (c *connection) outcome() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		return nil
	}
	return c.reason.err
}

// whyClosed is why the connection ends from this side.
func (c *connection) whyClosed() closeReason {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		return closeReason{}
	}
	return *c.reason
}

// endsWithLocked notes why the connection ends. connection.mu is held.
func (c *connection) endsWithLocked(err error) {
	switch {
	case c.reason != nil:
		c.reason.err = err
	case err != nil:
		c.reason = &closeReason{err: err}
	}
}

// orderly returns nil for the errors by which reading ends without anything having gone wrong, and err for others.
func orderly(err error) error {
	if errors.Is(err, io.EOF) || isClosed(err) {
		return nil
	}
	return err
}

// overflow ends a connection whose outbound queue is full. What is queued gets err: the peer doesn't read, so there is no
// flushing it, and no telling why either.
func (c *connection) overflow(err error) {
	c.out.Abort(err)
	if c.close(closeReason{err: err, code: codePolicyViolation, text: "slow consumer"}) {
		c.srv.stats.slow.Add(1)
	}
	c.pc.Close()
}

// lose ends a connection that can't be written to any more.
func (c *connection) lose(err error) {
	c.mu.Lock()
	if !c.closing.Swap(true) && !c.ended {
		c.endsWithLocked(err)
		c.endContextLocked()
	}
	c.mu.Unlock()
	c.pc.Close()
}

// endReading notes that nothing is read any more, and why. theirs: the end began at the peer. done is closed when the writer, if
// there is one, has ended.
func (c *connection) endReading(err error) (done <-chan struct{}, theirs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if theirs = !c.closing.Load(); theirs {
		c.endsWithLocked(orderly(err))
		if errors.Is(err, ErrPacketTooLarge) {
			c.srv.stats.tooLarge.Add(1)
		}
	}
	c.endContextLocked()
	c.out.Abort(ErrConnClosed)
	return c.writerDone, theirs
}

// endWriting ends the writer when reading is over. What is still queued after the peer has gone gets an error.
func (c *connection) endWriting(err error) {
	done, theirs := c.endReading(err)
	c.lastWords(err, theirs, done)
	c.pc.Close()
	if done != nil {
		<-done
		c.discard()
	}
}

// discard finishes what was queued and will not be written, once the queue was aborted and nobody else does.
func (c *connection) discard() { _ = c.out.RunOut(nil, c.finish) }

// lastWords tells the peer why the connection ends, where it can be told.
func (c *connection) lastWords(err error, theirs bool, done <-chan struct{}) {
	fault := faultCode(err)
	switch {
	case done == nil:
		c.discard()
	case fault == 0 && orderly(err) != nil:
		return
	case !awaitFor(done, lingerTimeout):
		// Last words come after whole packets, and the answer to a close frame may be in the very bytes that the writer
		// is writing.
		return
	}
	if !theirs {
		return
	}
	if fault != 0 {
		c.tell(fault, err)
	} else if a, ok := c.pc.(answerer); ok {
		a.answerClose()
	}
}

// answerer is implemented by connections whose peers expect an answer when they end them.
type answerer interface{ answerClose() }

// awaitFor waits until done is closed, but no longer than d, and reports whether it was.
func awaitFor(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// faultCode is the close code for a peer that broke a rule, 0 for other ends.
func faultCode(err error) int {
	if errors.Is(err, ErrMessageType) {
		return codeUnsupported
	}
	return wsio.CodeOf(err)
}

// tell lets the peer know why it is closed, where it broke a rule. What it is still sending is read and thrown away for a
// moment: a socket closed on unread bytes would take our last words back.
func (c *connection) tell(code int, err error) {
	if d, ok := c.pc.(drainer); ok && c.pc.Shutdown(code, err.Error()) == nil {
		d.Drain(lingerTimeout)
	}
}

// close begins the end from this side: what was written before is flushed, the peer is told, the reader goes on until
// the peer ends too. Each step is bounded. Only the first call counts, and reports true.
func (c *connection) close(reason closeReason) bool {
	c.mu.Lock()
	first := !c.closing.Swap(true)
	if first && !c.leaving && (!c.ended || c.reason == nil || c.reason.err == nil) { // what ended reading stays the reason
		c.reason = &reason
	}
	c.endContextLocked()
	c.mu.Unlock()
	if !first {
		return false
	}
	if c.carried != nil {
		c.drop(reason)
		return true
	}
	c.limitClosing(c.srv.opts.writeTimeout)
	c.out.Close(ErrConnClosed)
	c.startWriter()
	return true
}

// limitClosing closes the socket after d, whatever is still under way.
func (c *connection) limitClosing(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(d, func() { c.pc.Close() })
}

// cut ends the connection at once; what is queued gets err.
func (c *connection) cut(err error) {
	if c.carried != nil {
		return // close was enough: nothing of it waits for a peer
	}
	c.out.Abort(err)
	c.pc.Close()
}
