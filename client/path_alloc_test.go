//go:build !race

package client_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
)

// What a small packet costs there and back, a server in the same process included: it is borrowed, masked or marked where it is gathered,
// and what comes back shares memory with its neighbours. There is no such test under the race detector, which allocates.
func TestPathAllocations(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			const batch = 100
			c := tt.client(serveEcho(t, tt.network))
			back := make(chan struct{}, batch)
			c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { back <- struct{}{} })
			require.NoError(t, c.Run())
			defer c.Close()
			payload := make([]byte, 32)
			roundTrips := func() error {
				for range batch {
					p := frame.BorrowPacket(frame.KindNone, payload)
					if err := c.Enqueue(p); err != nil {
						return err
					}
				}
				for range batch {
					<-back
				}
				return nil
			}
			least := math.Inf(1)
			for range 3 { // what else the process does, or a pool that was emptied, can only add to it
				each, err := gwtest.Mallocs(200, roundTrips)
				require.NoError(t, err)
				least = min(least, each/batch)
			}
			t.Logf("%.3f allocations a packet, there and back", least)
			assert.LessOrEqual(t, least, 0.2, "0.1 each: the server's half, and ours")
		})
	}
}
