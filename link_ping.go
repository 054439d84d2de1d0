package gateway

import (
	"encoding/binary"
	"errors"
	"time"
)

const (
	pingInterval = time.Second
	linkSilence  = 10 * time.Second // without anything received, after which a link is dead
)

var errLinkSilent = errors.New("gateway: nothing received on the link for 10 s")

// keepPinging pings the backend every second: that is how its delay is measured, also under traffic, and how a host that has
// vanished is noticed.
func (l *link) keepPinging() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.heard.Store(l.gw.now())
	l.pinger = time.AfterFunc(pingInterval, l.ping)
}

func (l *link) ping() {
	if time.Duration(l.gw.now()-l.heard.Load()) > linkSilence {
		l.cli.Abort(errLinkSilent)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	if l.pinged.IsZero() { // one at a time
		l.nonce++
		l.pinged = time.Now()
		l.tell(binary.BigEndian.AppendUint64(beginControl(true, ctlPing, 8), l.nonce))
	}
	l.pinger.Reset(pingInterval)
}

func (l *link) onPong(nonce uint64) {
	l.mu.Lock()
	delay := time.Since(l.pinged)
	answered := !l.pinged.IsZero() && nonce == l.nonce
	if answered {
		l.pinged = time.Time{}
	}
	l.mu.Unlock()
	if answered {
		l.endpoint.health.add(delay)
	}
}

// endTimers ends what runs by the clock, when the link has ended.
func (l *link) endTimers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.shake = true, shakeDone
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.pinger != nil {
		l.pinger.Stop()
	}
}
