package server

import (
	"net"
	"time"
)

// codeTryAgain is registered beside those of RFC 6455, for a server that has no room.
const codeTryAgain = 1013

// maxAnswers is how many connections that are refused may be told so at the same time. Others are just closed: answering must cost a
// flood more than us.
const maxAnswers = 256

// turnAway tells a connection that is not let in why, and closes it. It returns at once.
func (s *Server) turnAway(pc PacketConn, r Refusal) {
	s.refuse(r, pc.RemoteAddr())
	if _, ok := pc.(*udpSession); ok { // an answer could go to somebody who has asked for nothing
		return
	}
	if !s.beginAnswer() {
		pc.Close()
		return
	}
	go s.answer(pc, r)
}

// answer takes as long as a good-bye may, and no longer.
func (s *Server) answer(pc PacketConn, r Refusal) {
	defer s.endAnswer()
	timer := time.AfterFunc(lingerTimeout, func() { pc.Close() })
	defer timer.Stop()
	defer pc.Close()
	if pc.Shutdown(codeTryAgain, string(r)) != nil {
		return
	}
	if d, ok := pc.(drainer); ok { // a socket closed on unread bytes would take the answer back
		d.Drain(lingerTimeout)
	}
}

// beginAnswer reports whether there is room for one more answer, which endAnswer has to end then.
func (s *Server) beginAnswer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.accepting || s.answers >= maxAnswers {
		return false
	}
	s.answers++
	s.serving.Add(1)
	return true
}

func (s *Server) endAnswer() {
	s.mu.Lock()
	s.answers--
	s.mu.Unlock()
	s.serving.Done()
}

// refuse counts a connection that is not let in, and says so: once a second for each reason at most.
func (s *Server) refuse(r Refusal, addr net.Addr, attrs ...any) {
	count, tell := s.stats.refusals.refuse(r, time.Since(s.made))
	if !tell {
		return
	}
	conn := ""
	if addr != nil {
		conn = addr.String()
	}
	s.log().Warn("connection refused", append([]any{"reason", string(r), "conn", conn, "times", count}, attrs...)...)
}
