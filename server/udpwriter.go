package server

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

const (
	deafTime   = time.Second // after a session was closed from this side
	idleParts  = 16          // of the sessions, which are looked at one after the other
	sweepsIdle = 128         // times within the idle timeout a part is looked at
)

// udpWriter is what the writer of a transport has gathered, of as many sessions as there are.
type udpWriter struct {
	list  []datagram
	of    []*frame.Packet // those of list
	taken []udpTaken
	spare []*udpSession
}

type udpTaken struct {
	outq.Taken
	s *udpSession
}

// write is the writer: it writes what is queued, and ends sessions that are closed or silent, until the last one has ended after Close.
func (t *udpTransport) write() {
	defer close(t.written)
	sweeps := time.NewTicker(max(t.opts.udp.idle/sweepsIdle, time.Millisecond))
	defer sweeps.Stop()
	closed := t.closed
	for !t.finished() {
		select {
		case <-t.wakeup:
			runtime.Gosched() // let those who are about to send do so first
			t.flush()
		case <-sweeps.C:
			t.sweep(t.since())
		case <-closed:
			closed = nil
		}
	}
	_ = closeOnce(t.pc) // an error of closing is nobody's
}

// finished reports whether there is nothing left to do.
func (t *udpTransport) finished() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closing && len(t.sessions.list) == 0
}

// sweep ends what was silent for too long.
func (t *udpTransport) sweep(now time.Duration) {
	t.mu.Lock()
	silent := t.sessions.silent(now-t.opts.udp.idle, idleParts)
	t.sessions.forget(now)
	t.door.clean(now)
	t.mu.Unlock()
	for _, s := range silent {
		s.lose(ErrIdleTimeout)
	}
}

// flush looks at every session that is ready.
func (t *udpTransport) flush() {
	w := &t.writer
	t.mu.Lock()
	ready := t.ready
	t.ready = w.spare[:0]
	t.mu.Unlock()
	_ = t.pc.SetWriteDeadline(time.Now().Add(t.opts.writeTimeout)) // where there is such a thing
	for _, s := range ready {
		t.attend(s)
		if len(w.list) >= udpBatch {
			t.send()
		}
	}
	t.send()
	clear(ready)
	w.spare = ready
}

// attend takes what s has queued, or ends it where it is closed.
func (t *udpTransport) attend(s *udpSession) {
	s.listed.Store(false) // first: what is queued from now on is another call's
	if s.gone {
		return
	}
	if s.dropping.Load() {
		t.end(s)
		return
	}
	taken, drained, err := s.out.Take(s.finishWrite)
	if drained || err != nil {
		t.end(s)
		return
	}
	packets := taken.Packets()
	if len(packets) == 0 {
		return
	}
	w := &t.writer
	w.taken = append(w.taken, udpTaken{taken, s})
	for _, p := range packets {
		w.of = append(w.of, p)
		w.list = append(w.list, datagram{peer: s.peer, addr: s.addr, data: p.Bytes()})
	}
}

// end ends a session, whose address is free again: at once, where silence was the reason, since the next datagram may be a new player's.
func (t *udpTransport) end(s *udpSession) {
	s.conclude()
	now := t.since()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions.remove(s)
	t.door.leave(s.peer.ip.Addr())
	if !errors.Is(s.outcome(), ErrIdleTimeout) && !t.closing {
		t.sessions.ignore(s.peer, now+deafTime)
	}
}

// send writes what was gathered, and tells the callbacks. A datagram that the network refuses concerns nobody else.
func (t *udpTransport) send() {
	w := &t.writer
	for done := 0; done < len(w.list); {
		n, err := t.socket.write(w.list[done:min(done+udpBatch, len(w.list))])
		if done += n; err == nil {
			continue
		}
		w.of[done].Refuse(refusedWrite(err))
		done++
	}
	for _, taken := range w.taken {
		taken.Settle(taken.s.finishWrite)
		if taken.s.closing.Load() {
			taken.s.wake() // all was written, maybe
		}
	}
	clear(w.list)
	clear(w.of)
	clear(w.taken)
	w.list, w.of, w.taken = w.list[:0], w.of[:0], w.taken[:0]
}

// refusedWrite is what the callback of a datagram gets that the network didn't take.
func refusedWrite(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return ErrConnClosed
	}
	return fmt.Errorf("server: write: %w", err)
}
