package gateway

import (
	"errors"
	"fmt"
	"sync"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// forward is one packet on its way to an endpoint.
type forward struct {
	gw       *Gateway // nil where the endpoint was never adopted
	endpoint *Endpoint
	opening  *opening
	conn     *server.Conn
	data     []byte // header and payload
	callback func(error)

	control controlType // 0: a client's packet
	cause   closeCause  // of a CLOSE
	kind    byte        // WebSocket type that the backend knows once a control packet is written

	link    *link         // whose queue it is or was in
	packet  client.Packet // in that queue
	failure error         // why a lost link's successor didn't take it
	kept    bool          // by somebody's own transport, maybe
	settled bool          // it is over: whoever has the packet last gives it back
}

// forwards are used again: there is one for each packet.
var forwards = sync.Pool{New: func() any { return new(forward) }}

const largestForward = 2 << 10 // bytes, of a packet's memory that is kept

// newForward returns a forward of a client's packet, of which it takes a copy.
func newForward(s *session, e *Endpoint, conn *server.Conn, packet []byte, callback func(error)) *forward {
	f := forwards.Get().(*forward)
	f.gw, f.endpoint, f.conn, f.callback = s.gw, e, conn, callback
	if cap(f.data) < headerSize+len(packet) {
		f.data = make([]byte, 0, headerSize+len(packet))
	}
	f.data = append(appendOutHeader(f.data[:0], s.key), packet...)
	return f
}

// Released is frame.Owner's.
func (f *forward) Released() {
	if f.settled {
		f.giveBack()
	}
}

// giveBack ends the use of a forward, which nobody has any more. Control packets are few, and left to the garbage collector.
func (f *forward) giveBack() {
	if f.control != 0 || f.kept {
		return
	}
	data := f.data[:0]
	if cap(data) > largestForward {
		data = nil
	}
	*f = forward{data: data}
	forwards.Put(f)
}

// Forward sends packet, which may be reused at once, to the endpoint for conn, and binds conn to the endpoint. It
// returns at once. Each callback is called exactly once: with nil when the bytes were handed to the kernel, on the
// goroutine that writes the link, and else with why they were not, maybe before Forward returns:
// ErrConnectionNotFount (conn has left), ErrEndpointNotExists (the gateway doesn't know the endpoint), ErrNoLink,
// ErrLinkFull, ErrFlooding, ErrPacketTooLarge. When a link is lost, what it had not written goes out over another of the
// endpoint's links, in order, or gets ErrNoLink. A conn that was moved away from the endpoint within the last second is
// forwarded to where it was moved.
func (e *Endpoint) Forward(conn *server.Conn, packet []byte, callback ...func(err error)) {
	g, done := e.gw.Load(), frame.JoinCallbacks(callback)
	if err := e.forward(g, conn, packet, done); err != nil {
		if errors.Is(err, ErrFlooding) {
			conn.CloseWith(codePolicyViolation, "flooding", ErrFlooding)
		}
		f := &forward{gw: g, endpoint: e, conn: conn, callback: done}
		f.fail(packet, err)
	}
}

func (e *Endpoint) forward(g *Gateway, conn *server.Conn, packet []byte, done func(error)) error {
	if g == nil {
		return ErrEndpointNotExists
	}
	s := g.sessionOf(conn)
	if s == nil {
		return ErrConnectionNotFount
	}
	if err := frame.CheckSize(len(packet), e.template.MaxPacketSize()); err != nil {
		return fmt.Errorf("gateway: forward to %s: %w", e.name, err)
	}
	g.askAttributes(s, conn, e)
	f := newForward(s, e, conn, packet, done)
	err := s.forward(e, f)
	if err != nil {
		f.giveBack()
	}
	return err
}

// codePolicyViolation is WebSocket's close code for a peer that breaks a rule (RFC 6455, section 7.4.1).
const codePolicyViolation = 1008

// Finished is frame.Owner's: the packet's callback at the link, on its writing goroutine, in order.
func (f *forward) Finished(err error) {
	if err != nil && !f.packet.Refused() && f.endpoint.keepUnsent(f) {
		return // the link is lost, and will hand over what it did not write
	}
	f.settle(err)
}

// Awaited is frame.Owner's.
func (f *forward) Awaited() bool { return true }

// settle ends the packet.
func (f *forward) settle(err error) {
	f.settled = true
	if f.control != 0 {
		f.settleControl(err)
		return
	}
	f.opening.pending.Add(-int64(len(f.data)))
	if err != nil {
		f.fail(f.data[headerSize:], err)
		return
	}
	f.opening.written.Add(1)
	f.gw.counts.add(forwarded)
	if f.callback != nil {
		f.gw.guard("forward callback", func() { f.callback(nil) })
	}
}

// fail tells everyone who asked that the packet was not sent.
func (f *forward) fail(packet []byte, err error) {
	if f.gw == nil {
		if f.callback != nil {
			f.callback(err)
		}
		return
	}
	f.data = nil // a handler may keep the packet, which it is a part of where it was queued
	f.gw.counts.add(forwardsFailed)
	f.gw.OnForwardFailedEvent(f.endpoint, f.conn, packet, err)
	if f.callback != nil {
		f.gw.guard("forward callback", func() { f.callback(err) })
	}
}
