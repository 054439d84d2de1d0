package gateway_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// With WithAsyncHandlers a hundred handlers that block for a second leave the delays of nine hundred other clients alone.
func TestBlockingHandlers(t *testing.T) {
	if raceEnabled {
		t.Skip("delays: not with the race detector")
	}
	const blockers, others, rounds = 100, 900, 5
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(4))
	srv := server.New("tcp", server.WithAsyncHandlers())
	blocking := make(chan struct{}, blockers)
	srv.RegConnectionPacketPreprocessEvent(func(_ *server.Server, _ *server.Conn, packet []byte, abort func(), _ func([]byte)) {
		if string(packet) == "block" {
			blocking <- struct{}{}
			time.Sleep(time.Second) // what a slow database does
			abort()
		}
	})
	g := newGatewayWith(t, srv, "", "game", gateway.NewStaticScanner(e))
	ready(t, 4, e)
	bots := make([]*bot, others)
	for i := range bots {
		bots[i] = newBot(t, "tcp", g.address)
		bots[i].ask(t, []byte("x"))
	}
	slow := make([]*bot, blockers)
	for i := range slow {
		slow[i] = newBot(t, "tcp", g.address)
	}
	var quiet, busy []time.Duration
	for range rounds { // in turn: what else the machine does slows both
		quiet = append(quiet, p99(t, bots))
		for _, bot := range slow {
			bot.Write([]byte("block"))
		}
		for range blockers {
			<-blocking
		}
		begun := time.Now()
		busy = append(busy, p99(t, bots))
		require.Less(t, time.Since(begun), time.Second, "they block all the time")
		require.Eventually(t, func() bool { return g.Server().Stats().PacketsAborted%blockers == 0 }, patience, time.Millisecond)
	}
	slices.Sort(quiet)
	slices.Sort(busy)
	t.Logf("p99 of %d clients: %v, beside %d blocking handlers %v", others, quiet[rounds/2], blockers, busy[rounds/2])
	assert.LessOrEqual(t, busy[rounds/2], 2*quiet[rounds/2])
}

// p99 is the delay that one in a hundred of the bots' round trips is above. Each makes one, eight at once.
func p99(t *testing.T, bots []*bot) time.Duration {
	delays := make([]time.Duration, len(bots))
	var asking sync.WaitGroup
	for worker := range 8 {
		asking.Go(func() {
			for i := worker; i < len(bots); i += 8 {
				begun := time.Now()
				bots[i].ask(t, []byte("x"))
				delays[i] = time.Since(begun)
			}
		})
	}
	asking.Wait()
	slices.Sort(delays)
	return delays[len(delays)*99/100]
}
