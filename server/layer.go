package server

import (
	"errors"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// For layers: Layer is what stands between a server and some of its connections, a gateway's links, each of which carries many
// clients (see gateway.NewBackend). Claim, First, Packet and Ended are called on the connection's reading goroutine. A layer
// that also has Err() error is asked when Run begins: Run returns its error as that of a bad option.
type Layer interface {
	// Subprotocol is what the layer's WebSocket connections ask for. Only those have it.
	Subprotocol() string
	// Claim is asked before anything was read. subprotocol is what a WebSocket connection agreed upon.
	Claim(conn *Conn, subprotocol string) Claim
	// First is asked about the first packet of a connection of which Claim said ClaimLater: true takes the connection,
	// false makes it a client.
	First(conn *Conn, packet []byte) bool
	// Packet gets each packet of a connection that was taken, with its Attachment. It owns packet.
	Packet(attachment any, packet []byte)
	// Ended comes once for each connection that was taken, when nothing is read or written any more.
	Ended(conn *Conn, err error)
}

// For layers: Claim says whose a connection is.
type Claim int

const (
	ClaimClient Claim = iota // an ordinary client
	ClaimTaken               // the layer's
	ClaimLater               // the first packet tells
)

const (
	firstPacketSize = 4 << 10  // at least, of a packet that may be a link's first
	linkPacketSize  = 64 << 10 // at least, on a connection that was taken
	linkReadBuffer  = 64 << 10
	linkQueueBytes  = 4 << 20
	linkQueueCount  = 1 << 16
)

// For layers: SetLayer puts l between the server and its connections. It must be called before Run, and once. Connections that
// are l's fire no events, are not online, and get a link's limits: see WithLinks.
func (s *Server) SetLayer(l Layer) {
	s.layer, s.opts.subprotocol = l, l.Subprotocol()
	s.opts.firstPacket = firstPacketSize
}

// widener is implemented by connections that can hold a larger buffer for what they read, by the reading goroutine.
type widener interface{ widen(size int) }

// vetter is implemented by connections on which a link may send what a client may not.
type vetter interface {
	// vet makes the connection a client's, whose first packet this is.
	vet(kind int, packet []byte) error
}

// subprotocoler is implemented by connections that agreed upon a subprotocol.
type subprotocoler interface{ Subprotocol() string }

// role is what a connection turned out to be.
type role int

const (
	roleNone   role = iota // it ended before that was known
	roleClient             // an ordinary client
	roleLink               // the layer's
)

// decide finds out what the connection is, and reads its first packet for that where it has to, which is still to be handled.
func (c *connection) decide() (r role, first *event, err error) {
	switch c.claimed() {
	case ClaimClient:
		return roleClient, nil, nil
	case ClaimTaken:
		c.become()
		return roleLink, nil, nil
	}
	kind, packet, err := c.pc.ReadPacket()
	if err != nil {
		return roleNone, nil, err
	}
	if c.srv.layer.First(c.detached(), packet) {
		c.become()
		return roleLink, &event{packet: packet}, nil
	}
	if err := c.vetFirst(kind, packet); err != nil {
		return roleNone, nil, err
	}
	return roleClient, &event{view: newConn(c, kind), packet: packet}, nil
}

// admit makes the connection a client, which is online unless it is held back.
func (c *connection) admit() {
	c.limit(c.srv.opts.maxPacket + c.srv.opts.headroom)
	if c.held() == nil {
		c.srv.admit(c)
	}
}

// become makes the connection a link: its packets and its queue are a link's.
func (c *connection) become() {
	c.letGo()
	c.link = true
	c.limit(max(c.srv.opts.maxPacket, linkPacketSize) + frame.WriteHeadroom)
	c.out.Bound(max(linkQueueBytes, c.srv.opts.queueBytes), max(linkQueueCount, c.srv.opts.queuePackets))
	if w, ok := c.pc.(widener); ok {
		w.widen(linkReadBuffer)
	}
	c.startWriter()
}

func (c *connection) limit(n int) {
	if l, ok := c.pc.(PacketLimiter); ok {
		l.SetPacketLimit(n)
	}
}

// readLink hands packets to the layer until the connection's end.
func (c *connection) readLink(first *event) error {
	if first != nil {
		c.srv.layer.Packet(c.attachment.Load(), first.packet)
	}
	batch := c.gatherWhileReading()
	defer batch.end()
	for {
		_, packet, err := c.pc.ReadPacket()
		if err != nil {
			return err
		}
		batch.more()
		if !c.closing.Load() {
			c.srv.layer.Packet(c.attachment.Load(), packet)
		}
	}
}

// For layers: ExportKeyingMaterial returns secret bytes that only the two ends of the connection's TLS know (RFC 5705), and
// false where there is no TLS.
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, bool) {
	state, ok := c.TLS()
	if !ok {
		return nil, false
	}
	secret, err := state.ExportKeyingMaterial(label, context, length)
	return secret, err == nil
}

// For layers: Enqueue queues p, which the connection owns from then on, and returns at once; no handler sees p. If it returns
// an error, ErrConnClosed or ErrQueueFull, p is still the caller's, and the connection goes on.
func (c *Conn) Enqueue(p *Packet) error {
	err := c.c.out.Put(p)
	switch {
	case err == nil:
		c.c.wakeLink()
	case errors.Is(err, outq.ErrFull):
		return ErrQueueFull
	}
	return err
}

// For layers: Force is Enqueue that doesn't mind a full queue: for a few small packets that must not be dropped.
func (c *Conn) Force(p *Packet) error {
	err := c.c.out.Force(p)
	if err == nil {
		c.c.wakeLink()
	}
	return err
}

// wakeLink sees to what was queued on a link. Off the event loops its queue has woken who writes.
func (c *connection) wakeLink() {
	if c.onLoop != nil {
		c.onLoop.Wake()
	}
}

// For layers: Gather lets what is written to the connection gather, until as many calls of Flush; it is for whoever has several packets for it
// at once. A client behind a gateway is no affair of it.
func (c *Conn) Gather() {
	if c.c.carried == nil {
		c.c.hold()
	}
}

// For layers: Loosen writes what a Gather holds, which holds nothing any more.
func (c *Conn) Loosen() {
	if c.c.carried == nil {
		c.c.loosen()
	}
}

// For layers: LetOut writes what gathers on a link, on the caller's goroutine and as far as the kernel takes it at once. It does
// nothing on event loops, and where writing means waiting. Packets with a callback are left to others.
func (c *Conn) LetOut() {
	if c.c.eager {
		c.c.pumped(c.c.out.PumpHeld(c.c.writeNow, c.c.finish))
	}
}

// For layers: Flush ends a Gather.
func (c *Conn) Flush() {
	if c.c.carried == nil {
		c.c.release()
	}
}

// For layers: Abort closes the connection at once, whatever is queued. The layer's Ended gets err.
func (c *Conn) Abort(err error) { c.c.lose(err) }
