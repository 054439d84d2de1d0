package server

import (
	"log/slog"
	"net"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Packet is one message on its way out: Type is its WebSocket type (0: none), Bytes its payload, which must not be changed.
type Packet = frame.Packet

// Framer marks the packets on a byte stream; see WithFramer.
type Framer = frame.Framer

// Transport accepts connections of one network. Give one of your own to WithTransport: a game's own protocol, a
// network that is not in the standard library, an in-memory one for tests. Run calls Listen, then Serve on a goroutine of
// its own; Close comes once Serve was called or Listen has failed, and may come twice. A Transport serves one Run at a time.
type Transport interface {
	// Listen binds addr and returns at once. Its error is Run's.
	Listen(addr string) error
	// Addr is where it listens.
	Addr() net.Addr
	// Serve accepts until Close and hands each connection to acceptor. It returns nil after Close, and else why it can't go
	// on; either way after the transport's own goroutines have ended.
	Serve(acceptor *Acceptor) error
	// Close stops accepting and makes Serve return. Connections that were handed over go on: they are the server's.
	Close() error
}

// PacketConn is one accepted connection, as its transport sees it. One goroutine reads, one writes, any goroutine
// may close.
type PacketConn interface {
	// ReadPacket blocks until the next packet, which belongs to the caller. kind is its WebSocket type, or 0. io.EOF is an orderly end.
	ReadPacket() (kind int, packet []byte, err error)
	// WritePackets writes packets in order, within the transport's write timeout, and returns how many of them, from
	// the first on, were handed to the kernel in full. It keeps nothing of them.
	WritePackets(packets []*Packet) (written int, err error)
	// Shutdown says good-bye after what was written: a close frame with code and reason where there is such a thing,
	// the end of the stream where there is not. Code 0 is a normal end. ReadPacket goes on until the peer ends too.
	Shutdown(code int, reason string) error
	// Close closes at once and makes ReadPacket and WritePackets return.
	Close() error
	// RemoteAddr is the peer's address. The connection's ID and IP are taken from it.
	RemoteAddr() net.Addr
}

// Acceptor takes the connections of a Transport.
type Acceptor struct{ srv *Server }

// Accept makes pc a connection of the server and returns at once; pc is the server's from then on. One that a limit refuses
// (WithMaxConnections and the like) is told so by Shutdown, code 1013, and closed, and while the server is shutting down pc is closed;
// either is counted in Stats.
func (a *Acceptor) Accept(pc PacketConn) { a.srv.accept(pc) }

// Refuse counts a connection that the transport did not let in; see Stats. A reason that isn't one of this package's counts as RefusedTransport.
func (a *Acceptor) Refuse(reason Refusal) { a.srv.stats.refusals.add(reason) }

// MaxPacketSize is the largest packet, in bytes, that a connection may send at first; see PacketLimiter.
func (a *Acceptor) MaxPacketSize() int { return a.srv.opts.readLimit() }

// WriteTimeout is what WithWriteTimeout was given, or the default.
func (a *Acceptor) WriteTimeout() time.Duration { return a.srv.opts.writeTimeout }

// Logger is where the server logs to.
func (a *Acceptor) Logger() *slog.Logger { return a.srv.opts.logger }

// PacketLimiter is a PacketConn whose largest packet can be changed while it lives: that of a connection that turns out to be a
// gateway's link is larger than a client's.
type PacketLimiter interface {
	// SetPacketLimit makes n bytes the largest packet that ReadPacket returns. The goroutine that reads calls it, between packets.
	SetPacketLimit(n int)
}
