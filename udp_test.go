package gateway_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// TestUDPClients plays conversations of a few packets at a time, which loopback neither loses nor reorders.
func TestUDPClients(t *testing.T) {
	const bots, packets, window = 16, 100, 4
	for _, back := range networks {
		t.Run(string(back), func(t *testing.T) {
			b := newBackend(t, back, nil)
			e := b.endpoint("game")
			srv := server.New(server.NetworkUdp, server.WithUDPIdleTimeout(time.Hour))
			g := newGatewayWith(t, srv, "", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			var playing sync.WaitGroup
			for who := range bots {
				bot := newBot(t, server.NetworkUdp, g.address)
				playing.Go(func() { converse(t, bot, who, packets, window) })
			}
			playing.Wait()
			for _, seen := range b.clients() {
				assert.True(t, strings.HasPrefix(seen, "127.0.0.1:"), "the endpoint is told the address of a client, not %s", seen)
			}
			assert.Len(t, b.clients(), bots)
			for id := range srv.GetOnlineAll() {
				srv.CloseConn(id)
			}
			require.Eventually(t, func() bool { return e.Sessions() == 0 }, patience, time.Millisecond)
		})
	}
}

func TestUDPLeavesByIdleTimeout(t *testing.T) {
	b := newBackend(t, server.NetworkTcp, nil)
	e := b.endpoint("game")
	srv := server.New(server.NetworkUdp, server.WithUDPIdleTimeout(200*time.Millisecond))
	reasons := make(chan any, 1)
	srv.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { reasons <- err })
	g := newGatewayWith(t, srv, "", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	bot := newBot(t, server.NetworkUdp, g.address)
	bot.Write([]byte("hello"))
	bot.Close()
	assert.Equal(t, server.ErrIdleTimeout, <-reasons)
	require.Eventually(t, func() bool { return e.Sessions() == 0 }, patience, time.Millisecond)
}

func TestUDPIsNoLink(t *testing.T) {
	var lines syncedLines
	unfit := gateway.NewEndpoint("unfit", dial(server.NetworkUdp, "127.0.0.1:9"))
	b := newBackend(t, server.NetworkTcp, nil)
	e := b.endpoint("game")
	g := newGateway(t, server.NetworkTcp, "game", gateway.NewStaticScanner(unfit, e),
		gateway.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
	ready(t, 1, e)
	_, err := g.GetEndpoint("unfit")
	assert.ErrorIs(t, err, gateway.ErrEndpointNotExists)
	require.Eventually(t, func() bool { return strings.Contains(lines.String(), gateway.ErrUnreliableLink.Error()) }, patience, time.Millisecond)
	assert.Contains(t, lines.String(), "endpoint=unfit address=127.0.0.1:9")
}

func TestUDPIsNoBackend(t *testing.T) {
	srv := server.New(server.NetworkUdp)
	gateway.NewBackend(srv)
	err := srv.Run("127.0.0.1:0")
	assert.ErrorIs(t, err, server.ErrBadOption)
	assert.ErrorContains(t, err, "order")
}

// syncedLines is a log that may be read while it is written.
type syncedLines struct {
	mu  sync.Mutex // guards the rest
	all strings.Builder
}

func (l *syncedLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *syncedLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}
