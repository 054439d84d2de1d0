package gateway

import (
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

// flowPause is how long a backend is told nothing more about a client's queue after it was told something.
const flowPause = 100 * time.Millisecond

// flow is what backends know of a session's queue. It is guarded by session.mu.
type flow struct {
	told  bool  // that it fills up
	at    int64 // when they were told last, nanoseconds since the gateway's start
	timer *time.Timer
}

func (f *flow) stop() {
	if f.timer != nil {
		f.timer.Stop()
	}
}

// congested tells the backends of a client whose queue fills up, or has room again.
func (g *Gateway) congested(conn *server.Conn) {
	if s := g.sessionOf(conn); s != nil {
		s.tellFlow()
	}
}

func (s *session) tellFlow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, congested := s.gw.now(), s.conn.Congested()
	if s.ended || congested == s.flow.told {
		return
	}
	if wait := flowPause - time.Duration(now-s.flow.at); s.flow.at != 0 && wait > 0 {
		if s.flow.timer == nil {
			s.flow.timer = time.AfterFunc(wait, s.tellFlow)
		} else {
			s.flow.timer.Reset(wait)
		}
		return
	}
	s.flow.told, s.flow.at = congested, now
	for _, o := range s.openings {
		o.repeatFlow()
	}
}

func (o *opening) flowPacket(congested bool) []byte {
	return appendFlag(appendKey(beginControl(true, ctlFlow, keySize+1), o.session.key), congested, 1)
}
