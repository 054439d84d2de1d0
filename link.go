package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// linkPacketType: links carry binary messages, for a binary header in a text message is illegal UTF-8.
const linkPacketType = frame.KindBinary

const (
	reconnectGrowth = 1.6
	reconnectJitter = 0.2
)

var errLinkClosed = errors.New("closed by the endpoint")

// link is one connection of an endpoint's pool. One that is lost never comes back: its slot makes another.
type link struct {
	endpoint *Endpoint // static, as are the next two
	cli      *client.Client
	dialed   time.Time

	// Guarded by Endpoint.mu.
	up        bool
	sessions  int        // pinned to it
	unsent    []*forward // taken and not written, when it was lost
	late      []*forward // that came after, and wait for the session's new lane
	lateBytes int
}

// runSlot keeps one link of the pool up until ctx is done.
func (e *Endpoint) runSlot(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		begun := time.Now()
		up := e.runLink(ctx, failures)
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
func (e *Endpoint) runLink(ctx context.Context, failures int) bool {
	g := e.gw.Load()
	l := &link{endpoint: e, cli: client.CloneClient(e.template), dialed: time.Now()}
	l.cli.RegConnectionOpenedEvent(func(*client.Client) { e.linkUp(l) })
	l.cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { g.deliver(e, packet) })
	l.cli.RegPongEvent(func(_ *client.Client, delay time.Duration) { e.health.add(delay) })
	err := l.cli.RunContext(ctx)
	e.mu.Lock()
	up := l.up
	e.mu.Unlock()
	if !up {
		if ctx.Err() == nil {
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
	g := e.gw.Load()
	e.health.addDial(time.Since(l.dialed))
	e.mu.Lock()
	l.up = true
	e.links = append(e.links, l)
	e.live.Store(int32(len(e.links)))
	close(e.wake)
	e.wake = make(chan struct{})
	e.mu.Unlock()
	g.counts.add(linksOpened)
	g.rebuild()
	g.log.Debug("link up", "endpoint", e.name, "address", e.address)
	g.OnEndpointConnectOpenedEvent(e)
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

// deliver hands a packet from an endpoint to the handlers, if it is for a client that is open there.
func (g *Gateway) deliver(e *Endpoint, data []byte) {
	g.counts.add(fromEndpoints)
	if len(data) < headerSize {
		g.counts.drop(g.log, droppedMalformed, "shorter than a header", e)
		return
	}
	key := getKey(data)
	if key == controlKey {
		g.counts.drop(g.log, droppedControl, "control packet on a plain link", e)
		return
	}
	s, ok := g.keys.sessions.Get(key)
	if !ok {
		g.counts.drop(g.log, droppedUnknown, "no such client", e)
		return
	}
	o, gone := s.beginDelivery(e)
	switch {
	case gone:
		g.counts.drop(g.log, droppedUnknown, "client has left", e)
		return
	case o == nil:
		g.counts.drop(g.log, droppedNotOpen, "client not open on this endpoint", e)
		return
	}
	defer s.endDelivery()
	o.answered(g.now())
	g.counts.add(delivered)
	// A view of its own for each packet: a handler may have kept the last one, or run right now for another endpoint.
	g.handleDelivery(e, s.conn.View(), data[headerSize:])
}

// handleDelivery runs the handlers; a panic costs the client the packet is for.
func (g *Gateway) handleDelivery(e *Endpoint, conn *server.Conn, packet []byte) {
	handlers := g.events.endpointReceive.All()
	if !g.guard("EndpointConnectReceivePacket", func() {
		for _, handle := range handlers {
			handle(g, e, conn, packet)
		}
	}) {
		conn.CloseWith(codeInternalError, "internal error", ErrHandlerPanic)
	}
}

// codeInternalError is WebSocket's close code for a fault on this side (RFC 6455, section 7.4.1).
const codeInternalError = 1011
