package gateway

import (
	"errors"
	"fmt"

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

	link    *link // whose queue it is or was in
	packet  *client.Packet
	failure error // why a lost link's successor didn't take it
}

// Forward sends packet, which may be reused at once, to the endpoint for conn, and binds conn to the endpoint. It
// returns at once. Each callback is called exactly once: with nil when the bytes were handed to the kernel, on the
// goroutine that writes the link, and else with why they were not, maybe before Forward returns:
// ErrConnectionNotFount (conn has left), ErrEndpointNotExists (the gateway doesn't know the endpoint), ErrNoLink,
// ErrLinkFull, ErrFlooding, ErrPacketTooLarge. When a link is lost, what it had not written goes out over another of the
// endpoint's links, in order, or gets ErrNoLink. A conn that was moved away from the endpoint within the last second is
// forwarded to where it was moved.
func (e *Endpoint) Forward(conn *server.Conn, packet []byte, callback ...func(err error)) {
	f := &forward{gw: e.gw.Load(), endpoint: e, conn: conn, callback: frame.JoinCallbacks(callback)}
	if f.gw == nil {
		f.fail(packet, ErrEndpointNotExists)
		return
	}
	s := f.gw.sessionOf(conn)
	if s == nil {
		f.fail(packet, ErrConnectionNotFount)
		return
	}
	if err := frame.CheckSize(len(packet), e.template.MaxPacketSize()); err != nil {
		f.fail(packet, fmt.Errorf("gateway: forward to %s: %w", e.name, err))
		return
	}
	f.gw.askAttributes(s, conn, e)
	f.data = append(appendOutHeader(make([]byte, 0, headerSize+len(packet)), s.key), packet...)
	if err := s.forward(e, f); err != nil {
		if errors.Is(err, ErrFlooding) {
			conn.CloseWith(codePolicyViolation, "flooding", ErrFlooding)
		}
		f.fail(packet, err)
	}
}

// codePolicyViolation is WebSocket's close code for a peer that breaks a rule (RFC 6455, section 7.4.1).
const codePolicyViolation = 1008

// done is the packet's callback at the link: on its writing goroutine, in order.
func (f *forward) done(err error) {
	if err != nil && !f.packet.Refused() && f.endpoint.keepUnsent(f) {
		return // the link is lost, and will hand over what it did not write
	}
	f.settle(err)
}

// settle ends the packet.
func (f *forward) settle(err error) {
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
	f.gw.counts.add(forwardsFailed)
	f.gw.OnForwardFailedEvent(f.endpoint, f.conn, packet, err)
	if f.callback != nil {
		f.gw.guard("forward callback", func() { f.callback(err) })
	}
}
