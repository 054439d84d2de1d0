package client_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/client"
)

// Eight goroutines run, close, abort and write as they like: every call returns, events pair up, callbacks come once.
func TestConcurrentUse(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network).echo()
			c := tt.client(b.addr)
			var opened, closed, live, written, called atomic.Int64
			c.RegConnectionOpenedEvent(func(*client.Client) { opened.Add(1); live.Add(1) })
			c.RegConnectionClosedEvent(func(*client.Client, any) { closed.Add(1); live.Add(-1) })
			c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) {
				assert.Positive(t, live.Load(), "a packet outside of opened and closed")
			})
			const rounds = 40
			var all sync.WaitGroup
			each := func(f func()) {
				all.Go(func() {
					for range rounds {
						f()
					}
				})
			}
			run := func(block bool) {
				if err := c.Run(block); err != nil && !errors.Is(err, client.ErrClosed) {
					assert.NoError(t, err)
				}
			}
			each(func() { run(false) })
			each(func() { run(false) })
			blocked := make(chan struct{})
			go func() {
				defer close(blocked)
				for range rounds {
					run(true)
				}
			}()
			each(func() { c.Close() })
			each(func() { c.Abort(nil) })
			for range 2 {
				each(func() {
					for range 50 {
						written.Add(1)
						c.Write([]byte("x"), func(error) { called.Add(1) })
					}
				})
			}
			each(func() { _ = c.IsConnected(); _ = client.CloneClient(c) })
			within(t, "everything", func() {
				all.Wait()
				for ended := false; !ended; { // nobody else ends what the blocked one runs
					c.Close()
					select {
					case <-blocked:
						ended = true
					default:
					}
				}
				c.Close()
			})
			awaitTrue(t, func() bool { return opened.Load() == closed.Load() }, "closed event for each opened one")
			assert.Equal(t, written.Load(), called.Load())
			assert.False(t, c.IsConnected())
			assertJoined(t)
		})
	}
}
