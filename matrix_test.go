package gateway_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// TestMatrix plays numbered conversations over every pair of networks: every reply to its own client, in order.
func TestMatrix(t *testing.T) {
	const bots, packets, window = 64, 200, 16
	for _, front := range networks {
		for _, back := range networks {
			for _, pool := range []int{1, 4} {
				t.Run(fmt.Sprintf("%s to %s, pool %d", front, back, pool), func(t *testing.T) {
					b := newBackend(t, back, nil)
					e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(pool))
					g := newGateway(t, front, "game", gateway.NewStaticScanner(e))
					ready(t, pool, e)
					var playing sync.WaitGroup
					for who := range bots {
						bot := newBot(t, front, g.address)
						playing.Go(func() { converse(t, bot, who, packets, window) })
					}
					playing.Wait()
					assert.Equal(t, pool, b.linksUsed(), "links that carried packets")
					assert.EqualValues(t, bots*packets, g.Stats().PacketsDelivered)
					// A packet is counted when its write has returned, which its reply may overtake.
					assert.Eventually(t, func() bool { return g.Stats().PacketsForwarded >= bots*packets }, patience, time.Millisecond)
					assert.EqualValues(t, bots*packets, g.Stats().PacketsForwarded)
				})
			}
		}
	}
}

// converse sends numbered packets, window at a time, and checks each reply.
func converse(t *testing.T, b *bot, who, packets, window int) {
	for sent, got := 0, 0; got < packets; got++ {
		for ; sent < packets && sent < got+window; sent++ {
			b.Write(numbered(who, sent))
		}
		select {
		case packet := <-b.got:
			from, n := readNumber(t, packet)
			if from != who || n != got {
				t.Errorf("bot %d got reply %d of %d, want its own %d", who, n, from, got)
				return
			}
		case <-timeout(t):
			t.Errorf("bot %d: no reply %d", who, got)
			return
		}
	}
}

// TestLargestPacketCrossesEveryPair sends a packet of exactly the limit, after which the link still lives.
func TestLargestPacketCrossesEveryPair(t *testing.T) {
	largest := bytes.Repeat([]byte("x"), server.DefaultMaxPacketSize)
	for _, front := range networks {
		for _, back := range networks {
			t.Run(fmt.Sprintf("%s to %s", front, back), func(t *testing.T) {
				b := newBackend(t, back, nil)
				e := b.endpoint("game")
				g := newGateway(t, front, "game", gateway.NewStaticScanner(e))
				ready(t, 1, e)
				bot := newBot(t, front, g.address)
				assert.True(t, bytes.Equal(largest, bot.ask(t, largest)), "the reply differs")
				assert.Equal(t, []byte("still here"), bot.ask(t, []byte("still here")))
				assert.EqualValues(t, 0, g.Stats().LinksClosed)
			})
		}
	}
}
