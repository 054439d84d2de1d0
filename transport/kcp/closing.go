package kcp

import "time"

// The codes of CLOSE are those of WebSocket.
const (
	codeNormal    = 1000
	codeGoingAway = 1001
	codeProtocol  = 1002
	codeTooLarge  = 1009
)

// bye notes that CLOSE is on its way, and reports whether it wasn't before.
func (c *conn) bye() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.saidBye
	c.saidBye = true
	if first {
		c.session.SetACKNoDelay(true) // the last acknowledgement has to be out before Close
	}
	return first
}

func (c *conn) hasSaidBye() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saidBye
}

// beginShutdown has CLOSE written after what was written, and doesn't wait.
func (c *conn) beginShutdown(code int, reason string) {
	if code == 0 {
		code = codeNormal
	}
	if c.bye() {
		c.say(dueClose, closeFrame(code, reason))
	}
}

// Shutdown has CLOSE written after what was written, and waits until the peer has answered it, which tells that all of it has
// arrived, but no longer than the write timeout. When nothing is read any more it doesn't wait.
func (c *conn) Shutdown(code int, reason string) error {
	c.beginShutdown(code, reason)
	timer := time.NewTimer(c.writeTimeout)
	defer timer.Stop()
	select {
	case <-c.readDone:
	case <-timer.C:
	}
	return nil
}

// Close ends the session at once; what KCP has not sent yet is lost. It waits for the connection's own goroutine.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.mu.Lock()
		c.ended = true
		for _, timer := range []*time.Timer{c.timer, c.lastCall} {
			if timer != nil {
				timer.Stop()
			}
		}
		c.mu.Unlock()
		_ = c.session.Close() // its only error: closed already
		c.control.Wait()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return nil
}

// fail ends the connection because of err, unless it has ended.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.reason == nil && !c.ended {
		c.reason = err
	}
	c.mu.Unlock()
	c.Close()
}

// leave is beginShutdown after which the session ends when the peer has answered, or after the write timeout.
func (c *conn) leave() {
	c.mu.Lock()
	if !c.ended {
		c.lastCall = time.AfterFunc(c.writeTimeout, func() { c.Close() })
	}
	c.mu.Unlock()
	c.beginShutdown(codeNormal, "")
}

// writeLast writes a frame after which nothing comes, and waits for a moment until the peer has all of it.
func (c *conn) writeLast(bytes []byte) error {
	if err := c.write(answerTime, bytes); err != nil {
		return err
	}
	// With a window of one segment kcp-go lets a write pass when nothing is on its way. There is no other way to ask.
	c.session.SetWindowSize(1, c.window)
	return c.write(answerTime)
}

// settle gives kcp-go the time to send its last acknowledgement.
func (c *conn) settle() { time.Sleep(c.interval) }
