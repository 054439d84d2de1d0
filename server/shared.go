package server

import "github.com/minotaur-gateway/gateway/internal/frame"

// Shared is a payload that many connections write: its bytes are held once, however many queues they are in. They must not
// be changed.
type Shared struct{ Data []byte }

// WriteShared queues payload, of the WebSocket type kind (0: the one the client last used), and returns at once. It is Write
// without a copy and without a callback, for casts.
func (c *Conn) WriteShared(kind int, payload *Shared) {
	if kind == 0 {
		kind = int(c.c.kind.Load())
	}
	if c.c.carrier != nil || len(c.c.srv.events.writeBefore.All()) > 0 {
		view := newConn(c.c, kind)
		view.Write(payload.Data)
		return
	}
	c.c.write(frame.NewPacket(kind, payload.Data, nil))
}
