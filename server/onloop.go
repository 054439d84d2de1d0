package server

import "github.com/minotaur-gateway/gateway/internal/frame"

// The life of a connection on an event loop, or of datagrams: what serve does on a goroutine of its own happens here step by step.

// start runs the opened handlers, or waits for what the first packet tells.
func (c *connection) start() {
	c.holdBack()
	switch c.claimed() {
	case ClaimClient:
		if c.held() == nil {
			c.openClient()
		}
	case ClaimTaken:
		c.become()
	default:
		c.undecided = true
	}
}

func (c *connection) openClient() {
	if c.ownBox {
		c.srv.serving.Go(c.box.run)
	}
	c.post(event{call: func() { c.srv.handleOpened(c.detached()) }})
}

// arrived handles a packet. An error ends the connection.
func (c *connection) arrived(kind int, packet []byte) error {
	switch {
	case c.undecided:
		return c.decideBy(kind, packet)
	case c.link:
		if !c.closing.Load() {
			c.srv.layer.Packet(c.attachment.Load(), packet)
		}
	default:
		c.received(kind, packet)
	}
	return nil
}

// decideBy finds out by its first packet what a connection is.
func (c *connection) decideBy(kind int, packet []byte) error {
	c.undecided = false
	if c.srv.layer.First(c.detached(), packet) {
		c.become()
		c.srv.layer.Packet(c.attachment.Load(), packet)
		return nil
	}
	if err := c.vetFirst(kind, packet); err != nil {
		return err
	}
	if c.held() == nil {
		c.openClient()
	}
	c.received(kind, packet)
	return nil
}

// endOnLoop ends a connection of which nothing is read any more, and reports whether it has said why, which the client is still to
// read.
func (c *connection) endOnLoop(err error) (told bool) {
	_, theirs := c.endReading(err)
	c.discard()
	if fault := faultCode(err); theirs && fault != 0 {
		told = c.pc.Shutdown(fault, err.Error()) == nil
	} else if theirs {
		c.onLoop.answerClose()
	}
	c.closeInTurn(func(f func()) { go f() })
	return told
}

// closeInTurn has a connection closed of which nothing happens any more. elsewhere runs closed handlers beside what the caller has to
// do: they may wait for deliveries that are under way.
func (c *connection) closeInTurn(elsewhere func(f func())) {
	switch {
	case c.link:
		c.srv.layer.Ended(c.detached(), c.outcome())
		c.srv.forget(c)
	case !c.client.Load():
		if c.leaveGate() {
			c.srv.forget(c)
		}
	case c.box != nil:
		c.post(event{call: c.closeLast})
	default:
		elsewhere(c.closeLast)
	}
}

// closeLast is the last step.
func (c *connection) closeLast() {
	c.srv.handleClosed(c.detached(), c.outcome())
	if c.ownBox {
		c.box.end()
	}
	c.srv.forget(c)
}

// claimed asks the layer whose the connection is.
func (c *connection) claimed() Claim {
	layer := c.srv.layer
	if layer == nil {
		return ClaimClient
	}
	subprotocol := ""
	if s, ok := c.end().(subprotocoler); ok {
		subprotocol = s.Subprotocol()
	}
	claim := layer.Claim(c.detached(), subprotocol)
	if claim == ClaimClient {
		if v, ok := c.end().(vetter); ok {
			_ = v.vet(frame.KindNone, nil) // nothing has come yet
		}
		c.admit()
	}
	return claim
}

// vetFirst makes a connection a client by its first packet, if that is one.
func (c *connection) vetFirst(kind int, packet []byte) error {
	if err := frame.CheckSize(len(packet), c.srv.opts.maxPacket); err != nil {
		return err
	}
	if v, ok := c.end().(vetter); ok {
		if err := v.vet(kind, packet); err != nil {
			return err
		}
	}
	c.admit()
	return nil
}
