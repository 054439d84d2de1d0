package kcp

import "time"

// say has a frame written by a goroutine, since whoever has it to say must not wait for room. One goroutine serves a connection, and
// only while something is due.
func (c *conn) say(what int, bytes []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.due[what] = bytes
	if !c.speaking {
		c.speaking = true
		c.control.Go(c.speak)
	}
}

// speak writes what is due until nothing is.
func (c *conn) speak() {
	for bytes := c.nextDue(); bytes != nil; bytes = c.nextDue() {
		if _, err := c.session.WriteBuffers([][]byte{bytes}); err != nil {
			return // Close was called: nothing is said any more
		}
	}
}

func (c *conn) nextDue() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, bytes := range c.due {
		if bytes != nil {
			c.due[i] = nil
			return bytes
		}
	}
	c.speaking = false
	return nil
}

// watch begins to look for signs of life.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.timer = time.AfterFunc(c.pingAfter, c.look)
	}
}

// look asks a silent peer for a sign of life, and gives up one that stays silent. Only what was received counts.
func (c *conn) look() {
	heard := c.heard.Load()
	silent := time.Since(c.began) - time.Duration(heard)
	ping := false
	c.mu.Lock()
	switch {
	case c.ended:
	case silent >= c.deadAfter:
		c.mu.Unlock()
		c.fail(ErrSilent)
		return
	case silent < c.pingAfter:
		c.timer.Reset(c.pingAfter - silent)
	default:
		ping = c.asked != heard
		c.asked = heard
		c.timer.Reset(min(c.pingAfter, c.deadAfter-silent))
	}
	c.mu.Unlock()
	if ping {
		c.say(duePing, appendFrame(nil, typePing))
	}
}
