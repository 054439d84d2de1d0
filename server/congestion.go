package server

// congestion is what the handlers of ConnectionCongestedEvent were told. It is guarded by connection.mu.
type congestion struct {
	told    bool // that the queue fills up
	telling bool // right now, on some goroutine
}

// LevelChanged is outq.Watcher's.
func (c *connection) LevelChanged() { c.srv.serving.Go(c.tellCongestion) }

// tellCongestion runs the handlers until they know whether the outbound queue fills up. One goroutine at a time does.
func (c *connection) tellCongestion() {
	for {
		congested, news := c.congestionNews()
		if !news {
			return
		}
		c.srv.handleCongested(c.detached(), congested)
		c.mu.Lock()
		c.telling = false
		c.mu.Unlock()
	}
}

func (c *connection) congestionNews() (congested, news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	congested = c.out.High()
	if congested == c.told || c.telling || c.ended || !c.client.Load() {
		return false, false
	}
	c.told, c.telling = congested, true
	return congested, true
}

// Congested reports whether the client's outbound queue is filling up: it was above three quarters of its bound, and has
// not been below one quarter since. Of a client behind a gateway it is the queue there. What a game can leave out, it
// leaves out then.
func (c *Conn) Congested() bool {
	if c.c.carried != nil {
		return c.c.carried.congested.Load()
	}
	return c.c.out.High()
}
