package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// Drain moves everybody elsewhere while they play, and returns when the last one has left; where there is nowhere to go, it
// returns with ctx.
func TestDrain(t *testing.T) {
	const bots, packets, window = 50, 200, 8
	heard := &ledger{next: map[int]int{}}
	a, b := newCounter(t, "tcp", heard), newCounter(t, "tcp", heard)
	ea, eb := a.endpoint(), b.endpoint()
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb))
	ready(t, 1, ea, eb)
	var playing sync.WaitGroup
	var got atomic.Int64
	for who := range bots {
		bot := newBot(t, "tcp", g.address)
		bot.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { got.Add(1) })
		playing.Go(func() { converse(t, bot, who, packets, window) })
	}
	require.Eventually(t, func() bool { return got.Load() > bots*packets/4 }, patience, time.Millisecond)
	require.NoError(t, a.Drain(t.Context()))
	assert.True(t, ea.Draining())
	assert.Zero(t, a.srv.GetOnlineCount())
	require.Eventually(t, func() bool { return b.srv.GetOnlineCount() == bots }, patience, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := b.Drain(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, fmt.Sprint(bots), "the number left")
	require.Eventually(t, func() bool { return eb.Draining() && !gateway.Selectable(eb) }, patience, time.Millisecond)
	_, err = g.GetEndpoint("game")
	assert.Equal(t, gateway.ErrEndpointNotExists, err, "both are leaving")
	a.Undrain() // as soon as there is somewhere to go, they do
	require.Eventually(t, func() bool { return b.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
	playing.Wait()
	heard.check(t, bots, packets)
	require.Eventually(t, func() bool { return a.srv.GetOnlineCount() == bots }, patience, time.Millisecond)
	assert.Zero(t, g.Stats().ForwardsFailed)
	b.Undrain()
	require.Eventually(t, func() bool { return !eb.Draining() && gateway.Selectable(eb) }, patience, time.Millisecond)
	b.Hold()
	require.Eventually(t, func() bool { return eb.Draining() && !gateway.Selectable(eb) }, patience, time.Millisecond)
	for range 20 {
		e, err := g.GetEndpoint("game")
		require.NoError(t, err)
		assert.Equal(t, ea.GetAddress(), e.GetAddress(), "no new ones for one that holds")
	}
}

// A session that is opened on a backend which has just begun to leave is moved on too, and asking again helps.
func TestDrainWhilePlayersJoin(t *testing.T) {
	a, b := newHost(t, "tcp", nil), newHost(t, "tcp", nil)
	ea, eb := a.endpoint(), b.endpoint()
	srv := server.New("tcp", server.WithAsyncHandlers()) // of which one is slow
	g := &fixture{Gateway: gateway.NewGateway(srv, gateway.NewStaticScanner(ea, eb)), network: "tcp"}
	arrived := make(chan struct{})
	g.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, conn *server.Conn, packet []byte) {
		if string(packet) == "first" { // a handler that chose an endpoint, and was slow
			close(arrived)
			assert.Eventually(t, ea.Draining, patience, time.Millisecond)
		}
		e := g.EndpointOf("game", conn)
		if e == nil {
			e = ea
		}
		e.Forward(conn, packet)
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.run(t, "")
	ready(t, 1, ea, eb)
	bot := newBot(t, "tcp", g.address)
	bot.Write([]byte("first"))
	<-arrived
	require.NoError(t, a.Drain(t.Context()))
	assert.Equal(t, "first", string(bot.next(t)))
	require.Eventually(t, func() bool { return a.srv.GetOnlineCount() == 0 && b.srv.GetOnlineCount() == 1 }, patience, time.Millisecond)
	assert.Equal(t, "second", string(bot.ask(t, []byte("second"))))
	require.NoError(t, a.Drain(t.Context()), "again")

	ended := make(chan error, 1)
	go func() { ended <- b.Drain(t.Context()) }() // nowhere to go
	require.Eventually(t, func() bool { return eb.Draining() && !gateway.Selectable(eb) }, patience, time.Millisecond)
	b.Undrain()
	assert.ErrorIs(t, <-ended, gateway.ErrUndrained)
}
