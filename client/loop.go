package client

import (
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
	core, ok := c.core.(looping)
	if ok = ok && l != nil && core.mayLoop(); ok {
		core.base().loop = l
	}
	return ok
}

// protocol makes packets of what an event loop has read. Its methods are called on the loop's goroutine.
type protocol interface {
	// cut takes a packet from the start of buf, of which it takes size bytes: 0 while there is nothing whole. The packet may be
	// a part of buf. kind is frame.NoPacket where what was taken is not for handlers.
	cut(buf []byte) (kind int, packet []byte, size int, err error)
	explain(err error) error
	// overdue is asked from time to time whether the server has been silent, or with the rest of a packet late, for too long.
	overdue(now time.Time, rest *frame.Pieces) error
	// lastPayload is what tells the server that the connection ends because of err, nil: we want it to. It reports whether there is
	// anything; else the end of the stream says so. fault: the server did wrong, and is given the time to read that.
	lastPayload(err error) (payload []byte, fault, ok bool)
	// closeFrame makes last words of it, behind which nothing is written; empty if there were some before.
	closeFrame(payload []byte) []byte
	// took is told which packets of a write the kernel took, the last one maybe in part. The others are made again.
	took(packets []*Packet)
}

// loopStream is a connection on an event loop. Its methods are called on the loop's goroutine, but for wake and Close.
type loopStream struct {
	loop.Conn
	core    *socket
	proto   protocol
	receive func(wst int, packet []byte)
	broken  frame.Cut
	style   *frame.Style
	done    chan struct{} // closed when the descriptor is

	early    []byte // read before the loop did
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

// moveToLoop takes a connection that was just made over to the socket's loop, where that is possible: there has to be a descriptor
// left, for one. early was read from it already.
func (s *socket) moveToLoop(conn net.Conn, proto protocol, style *frame.Style, early []byte) error {
	if s.loop == nil || frame.SocketOf(conn) == nil {
		return nil
	}
	fd, err := loop.Detach(conn)
	if err != nil { // a goroutine can read it, or find out what is wrong with it
		return nil
	}
	l := &loopStream{core: s, proto: proto, style: style, early: early, done: make(chan struct{})}
	l.Init(s.loop, fd, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // meanwhile: nobody else knows of l, and its loop may have ended
		l.Abandon()
		return ErrClosed
	}
	s.conn = l
	s.onLoop = l
	return nil
}

// run is Core.Run on a loop. The opened handlers come first: a loop can't wait for them.
func (s *loopStream) run(receive func(int, []byte)) {
	s.receive = receive
	<-s.core.owner.opened
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
func (s *loopStream) Start() {
	if early := s.early; len(early) > 0 {
		s.early = nil
		s.Data(early)
	}
	s.Flush()
}

// Data is loop.Handler's.
func (s *loopStream) Data(p []byte) {
	if s.over {
		return
	}
	p = s.pieces.Join(p)
	whole, n := false, 0
	for {
		kind, packet, size, err := s.proto.cut(p)
		if err != nil {
			s.end(err)
			return
		}
		if size == 0 {
			break
		}
		p, whole = p[size:], true
		if kind != frame.NoPacket {
			s.receive(kind, s.slab.Copy(packet, len(p)))
		}
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
	s.end(s.proto.explain(err))
}

// end ends reading, and the connection: at once, but for a server that is to read why.
func (s *loopStream) end(err error) {
	if s.over {
		s.drop()
		return
	}
	s.over, s.pieces = true, frame.Pieces{}
	s.core.end(err)
	if s.tell(err) {
		s.until = time.Now().Add(lingerTimeout)
		return
	}
	s.drop()
}

// tell tells the server why the connection ends, where it can be told, and reports whether it is still to read that: closed on unread
// bytes, the socket would take our last words back.
func (s *loopStream) tell(err error) bool {
	payload, fault, ok := s.proto.lastPayload(err)
	if ok && !s.said {
		_, _ = s.core.owner.queue.Drive(s.core.owner.writeBatch, s.core.owner.finish) // what was written before, as far as that goes
		if s.broken.LastNow(&s.Conn, s.proto.closeFrame(payload)) != nil {
			return false
		}
	}
	return fault && s.CloseWrite() == nil
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
	drained, err := s.core.owner.queue.Drive(s.core.owner.writeBatch, s.core.owner.finish)
	switch {
	case err != nil:
		s.core.owner.abort()
	case drained && !s.said:
		s.said = true
		s.until = time.Now().Add(lingerTimeout)
		if s.sayGoodbye() != nil {
			s.end(net.ErrClosed)
		}
	}
}

// sayGoodbye ends the connection from this side.
func (s *loopStream) sayGoodbye() error {
	if payload, _, ok := s.proto.lastPayload(nil); ok {
		return s.broken.LastNow(&s.Conn, s.proto.closeFrame(payload))
	}
	return s.CloseWrite()
}

func (s *loopStream) writePackets(packets []*Packet) (int, error) {
	n, err := s.broken.WriteNow(&s.Conn, s.style, packets)
	taken := n
	if s.broken.Pending() {
		taken++
	}
	s.proto.took(packets[:taken])
	switch taken := s.Taken(); {
	case !s.Blocked():
		s.stuck = time.Time{}
	case taken || s.stuck.IsZero(): // a part of a packet, maybe
		s.stuck = time.Now()
	}
	return n, err
}

// Tick is loop.Handler's.
func (s *loopStream) Tick(now time.Time) {
	switch {
	case !s.until.IsZero() && now.After(s.until):
		s.end(net.ErrClosed)
		s.drop()
	case s.over:
	case !s.stuck.IsZero() && now.Sub(s.stuck) > s.core.opts.writeTimeout:
		s.core.owner.because(fmt.Errorf("client: write: %w", os.ErrDeadlineExceeded))
		s.core.owner.abort()
	case !s.said:
		if err := s.proto.overdue(now, &s.pieces); err != nil {
			s.end(err)
		}
	}
}

// Panicked is loop.Handler's. Handlers' own panics don't come here.
func (s *loopStream) Panicked(value any, stack []byte) {
	s.core.opts.logger.Error("event loop panicked", "server", s.core.addr, "panic", value, "stack", string(stack))
	s.end(fmt.Errorf("client: event loop panicked: %v", value))
	s.drop()
}
