package gateway_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// A backend that says WELCOME after it was taken for a plain endpoint gets another chance: its links are closed, and it is asked
// anew.
func TestSlowWelcome(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
		var hellos, plain atomic.Int32
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			switch {
			case !isControl(packet, true):
				plain.Add(1)
			case packet[10] == hello:
				if hellos.Add(1) == 1 {
					time.Sleep(1500 * time.Millisecond)
				}
				conn.Write(forgedWelcome(1, nil, nil, packet[11:]))
				conn.Write(forgedReady())
			case packet[10] == 16:
				conn.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17}, packet[11:]...))
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for e := range w.Endpoints() {
			assert.Equal(t, 2, e.Links())
			assert.True(t, gateway.SpeaksSession(e))
		}
		assert.EqualValues(t, 3, hellos.Load(), "the slow one, then one for each link")
		assert.Zero(t, plain.Load())
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// A malformed control packet costs the link it came over, at either end, and its sessions go on over another.
func TestMalformedControlCostsTheLink(t *testing.T) {
	h := newHost(t, "tcp", nil)
	p := newProxy(t, h.address)
	e := gateway.NewEndpoint("game", client.NewTCP(p.address), gateway.WithEndpointConnectionPoolSize(2))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 2, e)
	var bots []*bot
	for range 4 {
		b := newBot(t, "tcp", g.address)
		b.ask(t, []byte("hello"))
		bots = append(bots, b)
	}
	for i, inject := range []func(p *pipe){
		func(p *pipe) { p.near.Write([]byte{0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 1}) },           // KICK, to the gateway
		func(p *pipe) { p.far.Write([]byte{0, 0, 0, 12, 0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, 5, 1}) }, // OPEN, to the backend
	} {
		ready(t, 2, e)
		require.Eventually(t, func() bool { return p.connections() == 2 }, patience, time.Millisecond)
		p.mu.Lock()
		inject(p.pipes[1])
		p.mu.Unlock()
		require.Eventually(t, func() bool { return g.Stats().LinksClosed == uint64(i+1) }, patience, time.Millisecond)
		for _, b := range bots {
			assert.Equal(t, "on", string(b.ask(t, []byte("on"))))
		}
	}
	assert.EqualValues(t, 1, h.Stats().LinksRefused)
	assert.EqualValues(t, 1, g.Stats().DroppedMalformed)
	for _, events := range h.heard() {
		assert.Equal(t, []string{"opened", "hello", "on", "on"}, events)
	}
}
