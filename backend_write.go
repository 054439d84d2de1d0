package gateway

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// backwrite is one packet on its way to a client's gateway.
type backwrite struct {
	session *backsession
	data    []byte // header and payload
	done    func(err error)
	packet  frame.Packet // in a link's queue, or held
}

// backwrites are used again: there is one for each packet.
var backwrites = sync.Pool{New: func() any { return new(backwrite) }}

const largestBackwrite = 2 << 10 // bytes, of a packet's memory that is kept

// Write is server.Carrier's.
func (s *backsession) Write(kind int, packet []byte, done func(err error)) error {
	size := int64(headerSize + len(packet))
	if !s.share(size) { // what only gathers is no sign of a slow client
		if s.letOut(); !s.share(size) {
			return server.ErrSlowConsumer
		}
	}
	cost := uint32(kind)
	if s.peer.plain { // there it is a stamp
		cost = uint32(time.Now().UnixNano())
	}
	w := backwrites.Get().(*backwrite)
	w.session, w.done = s, done
	if cap(w.data) < int(size) {
		w.data = make([]byte, 0, size)
	}
	w.data = append(appendInHeader(w.data[:0], s.key, cost), packet...)
	w.packet.Own(linkPacketType, w.data, w)
	s.mu.Lock()
	err := s.putLocked(&w.packet)
	s.mu.Unlock()
	if err != nil {
		s.waiting.Add(-size)
		w.Released()
	}
	return err
}

// share takes size bytes of the session's share of its link's queue, and reports false if there are not so many left.
func (s *backsession) share(size int64) bool {
	if waiting := s.waiting.Add(size); waiting > sessionShare && waiting > size {
		s.waiting.Add(-size)
		return false
	}
	return true
}

// letOut writes what gathers on the session's link.
func (s *backsession) letOut() {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil {
		l.conn.LetOut()
	}
}

// Finished is frame.Owner's.
func (w *backwrite) Finished(err error) {
	s := w.session
	s.waiting.Add(-int64(len(w.data)))
	if err == nil {
		s.written.Add(1)
	}
	s.carried.Wrote(w.done, err)
}

// Awaited is frame.Owner's.
func (w *backwrite) Awaited() bool { return w.done != nil }

// Released is frame.Owner's.
func (w *backwrite) Released() {
	w.session, w.done = nil, nil
	if cap(w.data) > largestBackwrite {
		w.data, w.packet = nil, frame.Packet{}
	}
	backwrites.Put(w)
}

// putLocked queues a packet on the session's link, or holds it until the session has one.
func (s *backsession) putLocked(p *frame.Packet) error {
	switch {
	case s.closed:
		return server.ErrConnClosed
	case s.link == nil || s.holding:
		s.held = append(s.held, p)
		return nil
	}
	err := s.link.conn.Enqueue(p)
	if errors.Is(err, net.ErrClosed) { // the link is lost, and the session about to be detached
		s.held = append(s.held, p)
		return nil
	}
	return err
}

// tell queues a control packet behind what was written. One that can't be queued is about a session whose link is lost, or
// whose gateway doesn't read: both end it anyway.
func (s *backsession) tell(data []byte) {
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	if l != nil && !l.plain {
		l.trySend(data)
	}
}

func (l *backlink) trySend(data []byte) {
	if err := l.send(data); err != nil {
		l.b.stats.controlUnsent.Add(1)
	}
}

func finishAll(packets []*frame.Packet, err error) {
	for _, p := range packets {
		p.Finish(err)
		p.Recycle()
	}
}
