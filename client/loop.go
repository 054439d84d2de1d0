package client

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

// OnLoop has the client's connection read and written by an event loop, if it turns out to be a plain socket: handlers run on the
// loop's goroutine then, and must not block. It is for a client that was not run yet, and reports whether its transport can do that.
func (c *Client) OnLoop(l *loop.Loop) bool {
	core, ok := c.core.(*streamCore)
	if ok = ok && l != nil && !core.opts.useTLS; ok {
		core.loop = l
	}
	return ok
}

// loopStream is a stream on an event loop. Its methods are called on the loop's goroutine, but for wake and Close.
type loopStream struct {
	loop.Conn
	core    *streamCore
	owner   *connection
	receive func(wst int, packet []byte)
	broken  frame.Cut
	style   frame.Style
	done    chan struct{} // closed when the descriptor is

	pieces   frame.Pieces
	slab     frame.Slab
	stuck    time.Time // since when the kernel takes nothing; zero: it does
	until    time.Time // when it is closed whatever happens; zero: it isn't
	said     bool      // the stream has ended from this side
	over     bool      // nothing is read any more
	dropping atomic.Bool
}

var _ loop.Handler = (*loopStream)(nil)

// flushEach is how many packets of one read are handed over before what they have brought about is written.
const flushEach = 256

// moveToLoop takes a connection that was just dialed over to the core's loop, where that is possible.
func (c *streamCore) moveToLoop(conn net.Conn) error {
	if c.loop == nil || frame.SocketOf(conn) == nil {
		return nil
	}
	fd, err := loop.Detach(conn)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	s := &loopStream{core: c, owner: c.owner, done: make(chan struct{})}
	s.style.Framer = c.opts.framer
	s.Init(c.loop, fd, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // meanwhile: nobody else knows of s, and its loop may have ended
		s.Abandon()
		return ErrClosed
	}
	c.conn = s
	c.onLoop = s
	return nil
}

// run is streamCore.Run on a loop. The opened handlers come first: a loop can't wait for them.
func (s *loopStream) run(receive func(int, []byte)) {
	s.receive = receive
	<-s.owner.opened
	s.Enroll()
	<-s.done
}

// Close ends the connection at once.
func (s *loopStream) Close() error {
	if !s.dropping.Swap(true) {
		s.Do(func() { s.end(net.ErrClosed) })
	}
	return nil
}

// Start is loop.Handler's.
func (s *loopStream) Start() { s.Flush() }

// Data is loop.Handler's.
func (s *loopStream) Data(p []byte) {
	if s.over {
		return
	}
	opts := &s.core.opts
	p = s.pieces.Join(p)
	whole, n := false, 0
	for len(p) > 0 {
		packet, size, err := opts.framer.Next(p, opts.maxPacket+frame.WriteHeadroom)
		if err != nil {
			s.end(err)
			return
		}
		if size == 0 {
			break
		}
		p, whole = p[size:], true
		s.receive(frame.KindNone, s.slab.Copy(packet, len(p)))
		if s.over {
			return
		}
		if n++; n%flushEach == 0 { // for all of them may be for one client
			s.core.loop.FlushNow()
		}
	}
	s.pieces.Keep(p, whole)
	if s.core.quiet != nil {
		s.core.quiet()
	}
}

// End is loop.Handler's.
func (s *loopStream) End(err error) {
	if err == io.EOF && s.pieces.Len() > 0 {
		err = io.ErrUnexpectedEOF
	}
	s.end(err)
}

// end ends reading, and the connection: at once, but for a server that is to read why.
func (s *loopStream) end(err error) {
	if s.over {
		s.drop()
		return
	}
	s.over, s.pieces = true, frame.Pieces{}
	s.core.end(err)
	if errors.Is(err, ErrPacketTooLarge) && s.CloseWrite() == nil { // closed on unread bytes, the socket would take our last words back
		s.until = time.Now().Add(lingerTimeout)
		return
	}
	s.drop()
}

func (s *loopStream) drop() {
	if s.over && !s.said {
		s.said = true // nothing is written any more
	}
	select {
	case <-s.done:
	default:
		s.Conn.Close()
		close(s.done)
	}
}

// Flush is loop.Handler's.
func (s *loopStream) Flush() {
	if s.over {
		return
	}
	drained, err := s.owner.queue.Drive(s.owner.writeBatch, s.owner.finish)
	switch {
	case err != nil:
		s.owner.abort()
	case drained && !s.said:
		s.said = true
		s.until = time.Now().Add(lingerTimeout)
		if s.CloseWrite() != nil {
			s.end(net.ErrClosed)
		}
	}
}

func (s *loopStream) writePackets(packets []*Packet) (int, error) {
	n, err := s.broken.WriteNow(&s.Conn, &s.style, packets)
	switch {
	case !s.Blocked():
		s.stuck = time.Time{}
	case n > 0 || s.stuck.IsZero():
		s.stuck = time.Now()
	}
	return n, err
}

// Tick is loop.Handler's.
func (s *loopStream) Tick(now time.Time) {
	switch opts := &s.core.opts; {
	case !s.until.IsZero() && now.After(s.until):
		s.end(net.ErrClosed)
		s.drop()
	case s.over:
	case !s.stuck.IsZero() && now.Sub(s.stuck) > opts.writeTimeout:
		s.owner.because(fmt.Errorf("client: write: %w", os.ErrDeadlineExceeded))
		s.owner.abort()
	case s.pieces.Overdue(now, packetTimeout):
		s.end(fmt.Errorf("%w: %d bytes of it after %v", frame.ErrPacketTimeout, s.pieces.Len(), packetTimeout))
	}
}

// Panicked is loop.Handler's. Handlers' own panics don't come here.
func (s *loopStream) Panicked(value any, stack []byte) {
	s.core.opts.logger.Error("event loop panicked", "server", s.core.addr, "panic", value, "stack", string(stack))
	s.end(fmt.Errorf("client: event loop panicked: %v", value))
	s.drop()
}
