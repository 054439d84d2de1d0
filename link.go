package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

// linkPacketType: links carry binary messages, for a binary header in a text message is illegal UTF-8.
const linkPacketType = frame.KindBinary

const (
	reconnectGrowth = 1.6
	reconnectJitter = 0.2
)

// leastMaxPacket is what a link takes whatever the client's limit is: the largest control packets, casts apart.
const leastMaxPacket = 64 << 10

var (
	errLinkClosed     = errors.New("closed by the endpoint")
	errLinkNotTrusted = errors.New("closed by the endpoint during the handshake: secret missing or wrong, or gateway not trusted: the backend's log tells")
)

// link is one connection of an endpoint's pool. One that is lost never comes back: its slot makes another.
type link struct {
	endpoint *Endpoint // static, as are the next three
	gw       *Gateway
	cli      *client.Client
	dialed   time.Time
	loop     *loop.Loop   // that reads and writes it, nil: goroutines do; static after runLink
	session  bool         // it speaks the session protocol; static once the link is up
	heard    atomic.Int64 // when anything was received last, nanoseconds since the gateway's start

	mu         sync.Mutex // guards the next ones, up to over; nothing is locked under it
	shake      shake
	hello      helloBody
	helloBytes []byte
	maybePlain bool        // no WELCOME means that the endpoint is a plain one
	peer       instanceID  // the backend's
	peerName   string      // the same
	asked      time.Time   // when HELLO was sent
	timer      *time.Timer // bounds the handshake
	pinger     *time.Timer
	pinged     time.Time // when the ping left that is not answered yet
	nonce      uint64    // that ping's
	over       bool

	groups groups // of the sessions on it

	// Owned by the goroutine that reads.
	gathers     bool   // quiet will be called; static after runLink
	gathering   bool   // gathered has some
	batch       uint64 // number of what was read at once; no two links have the same
	gatherTimer *time.Timer
	spare       []*server.Conn // what gathered is next

	gatherMu sync.Mutex     // guards the next; nothing of the gateway's is locked under it
	gathered []*server.Conn // that got something in the batch, and get it with one write

	// Guarded by Endpoint.mu.
	probe     bool // its slot finds out what the endpoint speaks
	up        bool
	sessions  int        // pinned to it
	unsent    []*forward // taken and not written, when it was lost
	late      []*forward // that came after, and wait for the session's new lane
	lateBytes int
}

// runSlot keeps one link of the pool up until ctx is done.
func (e *Endpoint) runSlot(ctx context.Context, slot int) {
	failures := 0
	for ctx.Err() == nil {
		probe, ok := e.awaitDialect(ctx.Done())
		if !ok {
			return
		}
		begun := time.Now()
		up := e.runLink(ctx, slot, probe, failures)
		if up && time.Since(begun) >= e.reconnect { // one that ends sooner has failed too: somebody accepts, and hangs up
			failures = 0
		} else {
			failures++
		}
		if e.reconnect <= 0 || !e.pause(ctx, failures, !up) {
			return
		}
	}
}

// runLink connects once, after so many failures in a row, and stays until that link ends. It reports whether the link came up.
func (e *Endpoint) runLink(ctx context.Context, slot int, probe bool, failures int) bool {
	g := e.gw.Load()
	l := &link{endpoint: e, gw: g, cli: client.CloneClient(e.template), dialed: time.Now(), probe: probe}
	if e.negotiates {
		l.cli.Offer(protocolSubprotocol)
	}
	if !e.plainOnly {
		l.cli.RaiseMaxPacketSize(leastMaxPacket)
	}
	if loops := g.linkLoops(); len(loops) > 0 && l.cli.OnLoop(loops[slot%len(loops)]) {
		l.loop = loops[slot%len(loops)]
	}
	l.gathers, l.batch = l.cli.OnQuiet(l.quiet), g.batches.Add(1)
	l.cli.RegConnectionOpenedEvent(func(*client.Client) { l.begin() })
	l.cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) {
		l.heard.Store(g.now())
		if !l.shaking(packet) {
			g.deliver(l, packet)
		}
	})
	l.cli.RegPongEvent(func(_ *client.Client, delay time.Duration) { e.health.add(delay) })
	err := l.cli.RunContext(ctx)
	l.quiet()
	l.endTimers()
	e.mu.Lock()
	up := l.up
	if l.probe { // without a result: the next one's turn
		l.probe = false
		e.endProbeLocked()
	}
	e.mu.Unlock()
	if !up {
		if ctx.Err() == nil {
			if err == nil {
				err = errLinkNotTrusted
			}
			level := slog.LevelDebug // one word about it is enough
			if failures == 0 {
				level = slog.LevelWarn
			}
			g.log.Log(ctx, level, "link not connected", "endpoint", e.name, "address", e.address, "err", err)
		}
		return false
	}
	e.linkLost(l)
	if ctx.Err() == nil {
		if err == nil {
			err = errLinkClosed
		}
		g.log.Warn("link lost", "endpoint", e.name, "address", e.address, "links", e.Links(), "err", err)
	}
	g.counts.add(linksClosed)
	g.OnEndpointConnectClosedEvent(e)
	return true
}

// linkUp lets a link take sessions.
func (e *Endpoint) linkUp(l *link) {
	g := l.gw
	e.health.addDial(time.Since(l.dialed))
	e.mu.Lock()
	if l.isOver() {
		e.mu.Unlock()
		return
	}
	l.up = true
	e.dialect = dialectPlain
	if l.session {
		e.dialect = dialectSession
	}
	if l.probe {
		l.probe = false
		e.endProbeLocked()
	}
	e.links = append(e.links, l)
	e.live.Store(int32(len(e.links)))
	close(e.wake)
	e.wake = make(chan struct{})
	e.mu.Unlock()
	g.counts.add(linksOpened)
	g.rebuild()
	g.log.Debug("link up", "endpoint", e.name, "address", e.address, "session protocol", l.session)
	g.OnEndpointConnectOpenedEvent(e)
	e.payDebts(l)
	if l.session {
		e.resumeSoon()
	}
	g.evacuate()
}

// pause waits before the next try, and reports false if ctx is done. With wakeable another link that comes up ends it: the
// endpoint can be reached again.
func (e *Endpoint) pause(ctx context.Context, failures int, wakeable bool) bool {
	var wake chan struct{}
	if wakeable {
		e.mu.Lock()
		wake = e.wake
		e.mu.Unlock()
	}
	timer := time.NewTimer(e.reconnectDelay(failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// reconnectDelay is the interval, grown by the failures in a row where that was asked for, give or take a fifth.
func (e *Endpoint) reconnectDelay(failures int) time.Duration {
	delay := float64(e.reconnect)
	if e.backoff > 0 {
		delay *= math.Pow(reconnectGrowth, float64(max(failures-1, 0)))
		delay = min(delay, max(float64(e.backoff), float64(e.reconnect)))
	}
	return time.Duration(delay * (1 + reconnectJitter*(2*rand.Float64()-1)))
}

// linkLoops are the event loops that clients are on, if they are on any.
func (g *Gateway) linkLoops() []*loop.Loop {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loops
}

// quiet is called when everything that was read at once has been handled.
func (l *link) quiet() {
	if !l.gathering {
		return
	}
	l.gathering = false
	l.gatherTimer.Stop()
	l.gatherMu.Lock()
	gathered := l.gathered
	l.gathered = l.spare
	l.gatherMu.Unlock()
	for _, conn := range gathered {
		conn.Flush()
	}
	clear(gathered)
	l.spare = gathered[:0]
	l.batch = l.gw.batches.Add(1)
}

// gather makes all that a client gets out of one read one write, unless a handler takes long.
func (l *link) gather(s *session, first bool) {
	if !first || !l.gathers || s.loop != nil { // on an event loop it gathers anyway
		return
	}
	s.conn.Gather()
	l.gatherMu.Lock()
	l.gathered = append(l.gathered, s.conn)
	l.gatherMu.Unlock()
	if l.gathering {
		return
	}
	l.gathering = true
	if l.gatherTimer == nil {
		l.gatherTimer = time.AfterFunc(gatherLimit, l.loosen)
	} else {
		l.gatherTimer.Reset(gatherLimit)
	}
}

// gatherLimit is how long a batch's handlers may take before what they have written no longer waits for the others.
const gatherLimit = time.Millisecond

func (l *link) loosen() {
	l.gatherMu.Lock()
	gathered := slices.Clone(l.gathered)
	l.gatherMu.Unlock()
	for _, conn := range gathered {
		conn.Loosen()
	}
}

// isOver reports whether the link has ended.
func (l *link) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// newLinkPacket returns a packet for a link's queue, which owns data.
func newLinkPacket(data []byte, done func(error)) *client.Packet {
	return client.NewPacket(linkPacketType, data, done)
}
