package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// protocol makes packets of what a connection on an event loop has read.
type protocol interface {
	// cut takes a packet from the start of buf, of which it takes size bytes: 0 while there is nothing whole. The packet may be
	// a part of buf. kind is noPacket where what was taken is not for handlers.
	cut(buf []byte) (kind int, packet []byte, size int, err error)
	// silence is asked from time to time whether the client has been silent for too long.
	silence(now time.Time) (again time.Time, err error)
	explain(err error) error
	// farewell is what tells the client that the connection ends, nil: the end of the stream does.
	farewell(code int, reason string) []byte
	// reply is what answers the client's own farewell, nil: nothing does.
	reply() []byte
	setLimit(n int)
}

// streamProtocol is the protocol of byte streams.
type streamProtocol struct {
	framer frame.Framer
	limit  int
}

func (s *streamProtocol) cut(buf []byte) (int, []byte, int, error) {
	if len(buf) == 0 {
		return noPacket, nil, 0, nil
	}
	packet, size, err := s.framer.Next(buf, s.limit)
	return frame.KindNone, packet, size, err
}

func (s *streamProtocol) silence(time.Time) (again time.Time, err error) { return again, nil }
func (s *streamProtocol) explain(err error) error                        { return err }
func (s *streamProtocol) farewell(int, string) []byte                    { return nil }
func (s *streamProtocol) reply() []byte                                  { return nil }
func (s *streamProtocol) setLimit(n int)                                 { s.limit = n }

// loopConn is a connection on an event loop: a PacketConn that nobody reads or writes, because the loop tells when there is
// something to be done. Everything but Close and what it embeds happens on the loop's goroutine.
type loopConn struct {
	loop.Conn
	protocol
	loops  *loops
	on     *serverLoop
	c      *connection
	out    frame.Outbound
	remote net.Addr

	pieces   frame.Pieces
	stuck    time.Time // since when the kernel takes nothing; zero: it does
	look     time.Time // when to ask about silence again
	until    time.Time // when the connection is closed whatever happens; zero: it isn't
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

func (l *loopConn) RemoteAddr() net.Addr { return l.remote }

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
	whole := false
	for {
		kind, packet, size, err := l.cut(p)
		if err != nil {
			l.end(err)
			return
		}
		if size == 0 {
			break
		}
		p, whole = p[size:], true
		if kind == noPacket {
			continue
		}
		if err := l.c.arrived(kind, l.on.slab.Copy(packet)); err != nil {
			l.end(err)
			return
		}
		if l.lingers {
			return
		}
	}
	l.pieces.Keep(p, whole)
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
	l.until = time.Now().Add(lingerTimeout)
}

// abandon closes a connection that the server has not taken.
func (l *loopConn) abandon() {
	l.Abandon()
	l.loops.left(l.on)
}

func (l *loopConn) drop() {
	if !l.Closed() {
		l.Conn.Close()
		l.loops.left(l.on)
	}
}

// Flush is loop.Handler's.
func (l *loopConn) Flush() {
	if l.lingers {
		return
	}
	drained, err := l.c.out.Drive(l.writeNow, l.c.finish)
	var failed *writeError
	if errors.As(err, &failed) {
		l.c.lose(failed.err)
		return
	}
	if drained && !l.said {
		l.sayGoodbye()
	}
}

func (l *loopConn) writeNow(packets []*Packet) (n int, err error) {
	defer func() {
		if value := recover(); value != nil { // of a framer of one's own: the queue waits for its writer, whatever happens
			err = &writeError{l.panicked(value, debug.Stack())}
		}
	}()
	n, err = l.out.WriteNow(packets)
	switch {
	case !l.Blocked():
		l.stuck = time.Time{}
	case n > 0 || l.stuck.IsZero():
		l.stuck = time.Now()
	}
	return n, asWriteError(err)
}

// sayGoodbye tells the client that the connection ends, after everything that was written, and gives it a second to end it too.
func (l *loopConn) sayGoodbye() {
	l.c.mu.Lock()
	reason := l.c.reason
	l.c.mu.Unlock()
	l.said = true
	if l.Shutdown(reason.code, reason.text) != nil {
		l.end(net.ErrClosed)
		return
	}
	l.until = time.Now().Add(lingerTimeout)
}

// Shutdown is PacketConn's.
func (l *loopConn) Shutdown(code int, reason string) error {
	if words := l.farewell(code, reason); words != nil {
		return l.say(words)
	}
	return l.CloseWrite()
}

// say writes last words, if they find room.
func (l *loopConn) say(words []byte) error {
	if l.out.Cut() || l.Blocked() {
		return errCutShort
	}
	n, err := l.Conn.WriteNow(words)
	if err == nil && n < len(words) {
		err = errCutShort
	}
	return err
}

func (l *loopConn) answerClose() {
	if words := l.reply(); words != nil {
		_ = l.say(words) // the client may be gone
	}
}

// Tick is loop.Handler's.
func (l *loopConn) Tick(now time.Time) {
	opts := &l.c.srv.opts
	switch {
	case !l.until.IsZero() && now.After(l.until):
		l.end(net.ErrClosed)
	case l.lingers:
	case !l.stuck.IsZero() && now.Sub(l.stuck) > opts.writeTimeout:
		l.c.lose(fmt.Errorf("write: %w", os.ErrDeadlineExceeded))
	case l.pieces.Overdue(now, packetTimeout):
		l.end(fmt.Errorf("%w: %d bytes of it after %v", frame.ErrPacketTimeout, l.pieces.Len(), packetTimeout))
	case !l.said && now.After(l.look):
		var err error
		if l.look, err = l.silence(now); err != nil {
			l.end(err)
		}
	}
}

// Panicked is loop.Handler's. Handlers' own panics don't come here.
func (l *loopConn) Panicked(value any, stack []byte) {
	l.c.lose(l.panicked(value, stack)) // and the end comes by itself
	l.drop()
}

func (l *loopConn) panicked(value any, stack []byte) error {
	l.c.srv.stats.panics.Add(1)
	l.c.srv.log().Error("event loop panicked", "conn", l.c.id, "panic", value, "stack", string(stack))
	return fmt.Errorf("%w: %v", ErrHandlerPanic, value)
}
