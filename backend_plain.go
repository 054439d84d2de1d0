package gateway

import (
	"time"
)

// Gateways that don't speak the session protocol (WithPlainGateways): a session opens with its first packet, and ends with
// its link or after a time without packets. Nobody tells when a client has left, and there is no closing it.
const (
	plainIdle  = time.Minute
	plainCheck = plainIdle / 4
)

// acceptPlain takes a link's first packet.
func (l *backlink) acceptPlain(data []byte) {
	if err := l.b.trusts(l.conn); err != nil {
		l.fail(err)
		return
	}
	if l.b.secrets != nil {
		l.fail(errNoProof)
		return
	}
	l.hello.instance, l.hello.name = newInstance(), "plain"
	p := l.b.peerOf(l.hello.instance, l.hello.name)
	p.mu.Lock()
	p.links++
	p.plain = true
	p.mu.Unlock()
	l.mu.Lock()
	l.timer.Stop()
	over := l.at() == isOver
	if !over {
		l.peer = p
		l.phase.Store(int32(isReady))
		l.timer = time.AfterFunc(plainCheck, l.checkIdle)
	}
	l.mu.Unlock()
	if over { // the handshake's time was up first
		p.linkGone()
		return
	}
	l.conn.Exempt()
	l.b.log.Info("plain gateway linked", "gateway", l.conn.GetID())
	l.plainPacket(data)
}

// plainPacket handles a packet of a plain gateway.
func (l *backlink) plainPacket(data []byte) {
	if !isOutPacket(data) {
		l.fail(errOutOfTurn)
		return
	}
	key := getKey(data[4:])
	if key == controlKey { // addressed to nobody
		l.b.stats.controlUnknown.Add(1)
		return
	}
	p := l.peer
	s := p.find(key)
	if s == nil {
		if err := p.open(l, &openBody{key: key, attach: 1, transport: "gateway", address: keyString(key)}); err != nil {
			l.fail(err)
			return
		}
		if s = p.find(key); s == nil {
			l.b.stats.strayData.Add(1)
			return
		}
	}
	s.last.Store(time.Now().UnixNano())
	if !s.receive(l, data[headerSize:]) {
		l.b.stats.strayData.Add(1)
	}
}

// checkIdle ends the sessions of a plain link that were silent for too long, every now and then.
func (l *backlink) checkIdle() {
	p := l.peer
	limit := time.Now().Add(-plainIdle).UnixNano()
	p.mu.Lock()
	var idle []*backsession
	for _, s := range p.sessions {
		if s.last.Load() <= limit {
			idle = append(idle, s)
		}
	}
	clear(p.gone) // nobody will tell when those have left
	p.mu.Unlock()
	for _, s := range idle {
		p.remove(s, nil)
		s.end(nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at() == isReady {
		l.timer.Reset(plainCheck)
	}
}
