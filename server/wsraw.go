package server

import (
	"net"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// rawConn is a PacketConn over WebSocket that reads and writes frames by itself: what the upgrade leaves behind, where neither
// compression nor the user's own code needs gorilla's connection.
type rawConn struct {
	wsio.Raw
	wsProtocol
	remote net.Addr
}

var (
	_ PacketConn = (*rawConn)(nil)
	_ requester  = (*rawConn)(nil)
	_ eager      = (*rawConn)(nil)
	_ controller = (*rawConn)(nil)
	_ waiter     = (*rawConn)(nil)
	_ answerer   = (*rawConn)(nil)
	_ drainer    = (*rawConn)(nil)
	_ vetter     = (*rawConn)(nil)
)

func newRawConn(conn net.Conn, protocol wsProtocol, opts *options) *rawConn {
	c := &rawConn{wsProtocol: protocol, remote: conn.RemoteAddr()}
	conn = bare(conn)
	c.Init(conn, &c.wsProtocol.Protocol, opts.wsDeadline, 0, frame.NewOutbound(conn, &frames, opts.writeTimeout))
	return c
}

// RemoteAddr is the peer's, or who a proxy says that it is.
func (c *rawConn) RemoteAddr() net.Addr { return c.remote }

func (c *rawConn) canWriteNow() bool                       { return c.Eager() }
func (c *rawConn) writeNow(packets []*Packet) (int, error) { return c.WriteNow(packets) }
func (c *rawConn) onWait(wait func())                      { c.OnWait(wait) }
func (c *rawConn) buffered() int                           { return c.Buffered() }
func (c *rawConn) widen(size int)                          { c.Widen(size) }

// Shutdown is PacketConn's: it sends a close frame and gives the client a second to answer it.
func (c *rawConn) Shutdown(code int, reason string) error {
	return c.Raw.Shutdown(c.farewell(code, reason))
}

// answerClose answers the client's close frame, if one has come.
func (c *rawConn) answerClose() {
	if words := c.reply(); words != nil {
		_ = c.Say(words) // the client may be gone
	}
}
