package server

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// udpSession is a connection without a goroutine of its own, all of it in one piece of memory: a PacketConn that nobody reads or
// writes, because its transport tells when there is something to be done.
type udpSession struct {
	connection
	transport *udpTransport // static, as is peer
	peer      udpPeer
	turn      turn          // the reader's and the writer's, to run handlers or end them
	over      bool          // the closed handlers' turn has come; belongs to whose turn it is
	gone      bool          // the session has ended; belongs to the writer
	listed    atomic.Bool   // it is among those that are ready
	dropping  atomic.Bool   // it shall end whatever is queued
	heard     time.Duration // when the last datagram came, 0 until the server has taken it; guarded by transport.mu, as is place
	place     int           // in the table
}

var (
	_ PacketConn = (*udpSession)(nil)

	errDriven = errors.New("server: a UDP session is read and written by its transport")
)

// newUDPSession returns a session whose turn it is: what others bring waits for open.
func newUDPSession(t *udpTransport, first datagram) *udpSession {
	s := &udpSession{transport: t, peer: first.peer}
	s.turn.busy = true
	if s.addr = first.addr; s.addr == nil {
		s.addr = (*udpAddr)(&s.peer.ip)
	}
	return s
}

// ReadPacket is PacketConn's, and not called.
func (s *udpSession) ReadPacket() (int, []byte, error) { return 0, nil, errDriven }

// WritePackets is PacketConn's, and not called.
func (s *udpSession) WritePackets([]*Packet) (int, error) { return 0, errDriven }

// Shutdown is PacketConn's, and not called: there is no good-bye.
func (s *udpSession) Shutdown(int, string) error { return errDriven }

// RemoteAddr is PacketConn's.
func (s *udpSession) RemoteAddr() net.Addr { return s.addr }

// Close ends the session at once, from any goroutine: the writer does.
func (s *udpSession) Close() error {
	s.dropping.Store(true)
	s.wake()
	return nil
}

// wake has the writer look at the session.
func (s *udpSession) wake() {
	if s.listed.Swap(true) {
		return
	}
	t := s.transport
	t.mu.Lock()
	t.ready = append(t.ready, s)
	t.mu.Unlock()
	t.signal()
}

// forgeable reports whether what seems to come from the client may be somebody else's, and must not end the connection.
func (c *connection) forgeable() bool { _, datagrams := c.pc.(*udpSession); return datagrams }

// inTurn runs f when nothing else happens on a connection that has no goroutine.
func (c *connection) inTurn(f func()) {
	if s, ok := c.pc.(*udpSession); ok {
		s.turn.put(event{call: f})
		return
	}
	c.onLoop.Do(f)
}

// open begins the session, and hands over the packet that it began with. On the reader.
func (s *udpSession) open(packet []byte) {
	s.start()
	s.receive(packet)
	s.turn.rest()
}

// take hands over a packet, unless the session has ended. On the reader.
func (s *udpSession) take(packet []byte) {
	if s.turn.begin() {
		s.receive(packet)
		s.turn.rest()
	} else if s.waits(packet) { // somebody lets the client in, or ends the session
		s.turn.put(event{call: func() {
			s.waiting.Add(-int64(mailboxSize(packet)))
			s.receive(packet)
		}})
	}
}

func (s *udpSession) receive(packet []byte) {
	if s.over {
		s.srv.stats.discarded.Add(1)
		return
	}
	_ = s.arrived(frame.KindNone, packet) // of a client there is no error
}

// conclude ends the session. On the writer, once, while nothing of it is being written.
func (s *udpSession) conclude() {
	s.gone = true
	_, _ = s.endReading(net.ErrClosed)
	s.discard()
	s.turn.put(event{call: func() {
		s.over = true
		s.closeInTurn(func(f func()) { s.transport.ends.put(event{call: f}) })
	}})
}

// finishWrite reports a packet's outcome. One that the network has refused knows it itself.
func (s *udpSession) finishWrite(p *frame.Packet, err error) {
	if p.Refused() {
		err = errRefused
	}
	s.finish(p, err)
}

var errRefused = errors.New("server: the network has refused the packet") // for what is counted

// udpTable is the sessions of a transport. It is guarded as that is.
type udpTable struct {
	byPeer map[udpPeer]*udpSession
	list   []*udpSession // in no order
	next   int           // of list: from here on their silence was looked at in this round
	round  int           // how many there were when it began
	deaf   map[udpPeer]struct{}
	ended  []deafPeer // those of deaf, in order
}

// deafPeer is not listened to for a moment: what it has sent before it was closed makes no new session.
type deafPeer struct {
	peer  udpPeer
	until time.Duration
}

func newUDPTable() udpTable {
	return udpTable{byPeer: map[udpPeer]*udpSession{}, deaf: map[udpPeer]struct{}{}}
}

func (t *udpTable) of(peer udpPeer) *udpSession { return t.byPeer[peer] }

func (t *udpTable) rests(peer udpPeer) bool { _, rests := t.deaf[peer]; return rests }

// size counts what is remembered.
func (t *udpTable) size() int { return len(t.list) + len(t.ended) }

func (t *udpTable) clone() []*udpSession { return slices.Clone(t.list) }

func (t *udpTable) add(s *udpSession) {
	s.place = len(t.list)
	t.list = append(t.list, s)
	t.byPeer[s.peer] = s
}

func (t *udpTable) remove(s *udpSession) {
	delete(t.byPeer, s.peer)
	last := len(t.list) - 1
	t.list[s.place] = t.list[last]
	t.list[s.place].place = s.place
	t.list[last] = nil
	t.list = t.list[:last]
}

// ignore makes peer deaf until a time that is not before that of the one before.
func (t *udpTable) ignore(peer udpPeer, until time.Duration) {
	t.deaf[peer] = struct{}{}
	t.ended = append(t.ended, deafPeer{peer, until})
}

// forget ends the time of those that were ignored for long enough.
func (t *udpTable) forget(now time.Duration) {
	n := 0
	for n < len(t.ended) && t.ended[n].until <= now {
		delete(t.deaf, t.ended[n].peer)
		n++
	}
	if t.ended = t.ended[n:]; len(t.ended) == 0 {
		t.ended = nil
	}
}

// silent returns those of which nothing was heard since a time, among the next part of all: after so many calls as there are
// parts, each was looked at. It goes down, since whoever leaves is replaced by the last one, which then was looked at already.
func (t *udpTable) silent(since time.Duration, parts int) (list []*udpSession) {
	if t.next = min(t.next, len(t.list)); t.next == 0 {
		t.next, t.round = len(t.list), len(t.list)
	}
	for n := min(t.next, t.round/parts+1); n > 0; n-- {
		t.next--
		if s := t.list[t.next]; s.heard != 0 && s.heard < since {
			list = append(list, s)
		}
	}
	return list
}
