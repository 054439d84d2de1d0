package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// protocol makes packets of what a connection on an event loop has read.
type protocol interface {
	// cut takes a packet from the start of buf, of which it takes size bytes: 0 while there is nothing whole. The packet may be
	// a part of buf. kind is frame.NoPacket where what was taken is not for handlers.
	cut(buf []byte) (kind int, packet []byte, size int, err error)
	// packets reports whether a packet that was begun has to end within the packet timeout.
	packets() bool
	// silence is asked whether the client has been silent for too long, and how long to wait before it is asked again.
	silence() (wait time.Duration, err error)
	explain(err error) error
	// farewell is what tells the client that the connection ends, nil: the end of the stream does.
	farewell(code int, reason string) []byte
	// reply is what answers the client's own farewell, nil: nothing does.
	reply() []byte
	SetPacketLimit(n int)
}

// streamProtocol is the protocol of byte streams.
type streamProtocol struct {
	framer frame.Framer
	limit  int
}

func (s *streamProtocol) cut(buf []byte) (int, []byte, int, error) {
	if len(buf) == 0 {
		return frame.NoPacket, nil, 0, nil
	}
	packet, size, err := s.framer.Next(buf, s.limit)
	return frame.KindNone, packet, size, err
}

func (s *streamProtocol) silence() (time.Duration, error) { return time.Hour, nil }
func (s *streamProtocol) packets() bool                   { return true }
func (s *streamProtocol) explain(err error) error         { return err }
func (s *streamProtocol) farewell(int, string) []byte     { return nil }
func (s *streamProtocol) reply() []byte                   { return nil }
func (s *streamProtocol) SetPacketLimit(n int)            { s.limit = n }

// loopConn is a connection on an event loop: a PacketConn that nobody reads or writes, because the loop tells when there is
// something to be done. Everything but Close and what it embeds happens on the loop's goroutine.
type loopConn struct {
	loop.Conn
	protocol
	on     *serverLoop
	c      *connection
	style  *frame.Style
	broken frame.Cut
	pieces frame.Pieces
	// Times are since the server was made.
	stuck    time.Duration // since when the kernel takes nothing; 0: it does
	look     time.Duration // when to ask about silence again
	until    time.Duration // when the connection is closed whatever happens; 0: it isn't
	started  bool
	said     bool // good-bye
	lingers  bool // the connection has ended, and only its last words are still under way
	dropping atomic.Bool
}

var (
	_ PacketConn   = (*loopConn)(nil)
	_ loop.Handler = (*loopConn)(nil)
)

var errOnLoop = errors.New("server: the connection is on an event loop")

// ReadPacket is PacketConn's, and not called.
func (l *loopConn) ReadPacket() (int, []byte, error) { return 0, nil, errOnLoop }

// WritePackets is PacketConn's, and not called.
func (l *loopConn) WritePackets([]*Packet) (int, error) { return 0, errOnLoop }

// RemoteAddr is PacketConn's.
func (l *loopConn) RemoteAddr() net.Addr { return l.c.addr }

// since is a time as the fields have it, never 0.
func (l *loopConn) since(t time.Time) time.Duration { return t.Sub(l.c.srv.made) + 1 }

// Close ends the connection at once, from any goroutine.
func (l *loopConn) Close() error {
	if !l.dropping.Swap(true) {
		l.Do(func() { l.end(net.ErrClosed) })
	}
	return nil
}

// Start is loop.Handler's.
func (l *loopConn) Start() {
	if !l.started {
		l.started = true
		l.c.start()
	}
}

// Data is loop.Handler's.
func (l *loopConn) Data(p []byte) {
	if l.lingers {
		return
	}
	p = l.pieces.Join(p)
	for whole := false; ; whole = true {
		kind, packet, size, err := l.cut(p)
		if err != nil {
			l.end(err)
			return
		}
		if size == 0 {
			l.pieces.Keep(p, whole)
			return
		}
		p = p[size:]
		if whole && l.c.out.Half() { // answers that only gather are no sign of a slow client
			l.Flush()
		}
		if kind == frame.NoPacket {
			continue
		}
		if err := l.c.arrived(kind, l.on.slab.Copy(packet, len(p))); err != nil {
			l.end(err)
			return
		}
		if l.lingers {
			return
		}
	}
}

// End is loop.Handler's: there is nothing to be read any more.
func (l *loopConn) End(err error) {
	if err == io.EOF && l.pieces.Len() > 0 {
		err = io.ErrUnexpectedEOF
	}
	l.end(l.explain(err))
}

// end ends the connection, unless that has been done, but for its last words.
func (l *loopConn) end(err error) {
	if l.lingers {
		l.drop()
		return
	}
	l.Start()                 // or it would be closed without having been opened
	if err != net.ErrClosed { // which is our own doing
		_, _ = l.c.out.Drive(l.writeNow, l.c.finish) // answers to what came before, as far as that goes
	}
	l.lingers, l.pieces = true, frame.Pieces{}
	if !l.c.endOnLoop(err) {
		l.drop()
		return
	}
	// The client is still to read why. A socket closed on unread bytes would take that back.
	_ = l.CloseWrite()
	l.until = l.since(time.Now()) + lingerTimeout
}

// abandon closes a connection that the server has not taken.
func (l *loopConn) abandon() {
	l.Abandon()
	l.on.loops.left(l.on)
}

func (l *loopConn) drop() {
	if !l.Closed() {
		l.Conn.Close()
		l.on.loops.left(l.on)
	}
}

// Flush is loop.Handler's.
func (l *loopConn) Flush() {
	if l.lingers {
		return
	}
	drained, err := l.c.out.Drive(l.writeNow, l.c.finish)
	if l.c.loseBy(err) {
		return
	}
	if drained && !l.said {
		l.sayGoodbye()
	}
}

func (l *loopConn) writeNow(packets []*Packet) (n int, err error) {
	defer l.c.recoverWrite(&n, &err)
	n, err = l.broken.WriteNow(&l.Conn, l.style, packets)
	switch taken := l.Taken(); {
	case !l.Blocked():
		l.stuck = 0
	case taken || l.stuck == 0: // a part of a packet, maybe
		l.stuck = l.since(time.Now())
	}
	return n, err
}

// sayGoodbye tells the client that the connection ends, after everything that was written, and gives it a second to end it too.
func (l *loopConn) sayGoodbye() {
	reason := l.c.whyClosed()
	l.said = true
	if l.Shutdown(reason.code, reason.text) != nil {
		l.end(net.ErrClosed)
		return
	}
	l.until = l.since(time.Now()) + lingerTimeout
}

// Shutdown is PacketConn's.
func (l *loopConn) Shutdown(code int, reason string) error {
	if words := l.farewell(code, reason); words != nil {
		return l.say(words)
	}
	return l.CloseWrite()
}

// say writes last words, if they find room.
func (l *loopConn) say(words []byte) error { return l.broken.LastNow(&l.Conn, words) }

func (l *loopConn) answerClose() {
	if words := l.reply(); words != nil {
		_ = l.say(words) // the client may be gone
	}
}

// Tick is loop.Handler's.
func (l *loopConn) Tick(now time.Time) {
	opts, at := &l.c.srv.opts, l.since(now)
	switch {
	case l.until != 0 && at > l.until:
		l.end(net.ErrClosed)
	case l.lingers:
	case l.stuck != 0 && at-l.stuck > opts.writeTimeout:
		l.c.lose(fmt.Errorf("write: %w", os.ErrDeadlineExceeded))
	case l.packets() && l.pieces.Overdue(now, packetTimeout):
		l.end(fmt.Errorf("%w: %d bytes of it after %v", frame.ErrPacketTimeout, l.pieces.Len(), packetTimeout))
	case !l.said && at > l.look:
		wait, err := l.silence()
		if err != nil {
			l.end(err)
		}
		l.look = at + wait
	}
}

// Panicked is loop.Handler's. Handlers' own panics don't come here: it is a framer of somebody's own, or a fault.
func (l *loopConn) Panicked(value any, stack []byte) {
	l.c.srv.stats.panics.Add(1)
	l.c.srv.log().Error("event loop panicked", "conn", l.c.id, "panic", value, "stack", string(stack))
	if !l.lingers {
		l.end(fmt.Errorf("%w: %v", ErrHandlerPanic, value))
	}
	l.drop()
}
