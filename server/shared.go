package server

import "github.com/minotaur-gateway/gateway/internal/frame"

// For layers: Shared is a payload that many connections write: its bytes are held once, and framed once for each transport and type,
// however many queues they are in.
type Shared = frame.Shared

// For layers: NewShared returns a Shared that owns data.
func NewShared(data []byte) *Shared { return frame.NewShared(data) }

// For layers: WriteShared queues payload, of the WebSocket type kind (0: the one the client last used), and returns at once. It
// is Write without a copy and without a callback, for casts.
func (c *Conn) WriteShared(kind int, payload *Shared) {
	if kind == 0 {
		kind = int(c.c.kind.Load())
	}
	if c.c.carried != nil || len(c.c.srv.events.writeBefore.All()) > 0 {
		newConn(c.c, kind).Write(payload.Bytes())
		return
	}
	c.c.write(frame.NewSharedPacket(kind, payload))
}
