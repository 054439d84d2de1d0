//go:build linux && !noloops

package server_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// randomPacket is one of any size up to 64 KiB, small ones being as likely as large ones.
func randomPacket(r *rand.Rand) []byte {
	packet := make([]byte, r.IntN(1+r.IntN(64<<10+1)))
	for i := range packet {
		packet[i] = byte('a' + r.IntN(26))
	}
	return packet
}

// A client that reads by fits and starts gets everything whole and in order, and others are served meanwhile.
func TestEnginePartialWrites(t *testing.T) {
	for engine, on := range engines() {
		for _, network := range networks {
			t.Run(engine+" "+network, func(t *testing.T) {
				partialWrites(t, serve(t, network, on, server.WithConnWriteBufferBytes(64<<20), server.WithWriteTimeout(patience)).echo())
			})
		}
	}
}

func partialWrites(t *testing.T, h *host) {
	const packets = 300
	slow, conn := h.dial(t)
	other, _ := h.dial(t)
	r := rand.New(rand.NewPCG(1, 2))
	var all [][]byte
	results := make(chan int, packets)
	for i := range packets {
		all = append(all, randomPacket(r))
		conn.Write(all[i], func(err error) {
			assert.NoError(t, err)
			results <- i
		})
	}
	assert.Less(t, len(results), packets, "the kernel doesn't take all of it")
	for i := 0; i < packets; {
		for n := min(1+r.IntN(40), packets-i); n > 0; n-- {
			slow.Expect(text, all[i])
			i++
		}
		// The pause: somebody else has a turn or more.
		for range r.IntN(3) {
			other.Write(text, []byte("still there?"))
			other.Expect(text, []byte("still there?"))
		}
	}
	for i := range packets {
		assert.Equal(t, i, await(t, results, "callback"), "in order")
	}
	slow.Write(text, []byte("done"))
	slow.Expect(text, []byte("done"))
}

// A client that doesn't read costs its bound, and others nothing.
func TestEngineSlowConsumer(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			const bound = 1 << 20
			h := serve(t, network, onLoops, server.WithConnWriteBufferBytes(bound), server.WithWriteTimeout(time.Hour)).echo()
			_, slow := h.dial(t)
			other, _ := h.dial(t)
			written, failed := 0, make(chan error, 1<<12)
			for !slow.IsClosed() {
				slow.Write(make([]byte, 32<<10), func(err error) {
					if err != nil {
						failed <- err
					}
				})
				if written += 32 << 10; written%bound == 0 {
					other.Write(text, []byte("still there?"))
					other.Expect(text, []byte("still there?"))
				}
				require.Less(t, written, 1<<30)
			}
			assert.Equal(t, server.ErrSlowConsumer, h.end(t))
			assert.EqualValues(t, 1, h.Stats().SlowConsumers)
			assert.Eventually(t, func() bool { return uint64(len(failed)) == h.Stats().WritesFailed }, patience, tick)
			assert.LessOrEqual(t, len(failed), bound/(32<<10)+1, "no more than the bound was queued, and the one that was too much")
			for range len(failed) {
				assert.ErrorIs(t, <-failed, net.ErrClosed)
			}
		})
	}
}

// A client of which the kernel takes nothing for the write timeout is closed.
func TestEngineWriteTimeout(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network, onLoops, server.WithConnWriteBufferBytes(64<<20), server.WithWriteTimeout(300*time.Millisecond)).echo()
			_, stuck := h.dial(t)
			other, _ := h.dial(t)
			results := make(chan error, 1000)
			begun := time.Now()
			for range cap(results) {
				stuck.Write(make([]byte, 32<<10), func(err error) { results <- err })
			}
			other.Write(text, []byte("still there?"))
			other.Expect(text, []byte("still there?"))
			err := h.endError(t)
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.Greater(t, time.Since(begun), 300*time.Millisecond)
			for i := range cap(results) {
				if err = await(t, results, "callback"); i == cap(results)-1 {
					assert.ErrorIs(t, err, net.ErrClosed)
				}
			}
			other.Write(text, []byte("still there?"))
			other.Expect(text, []byte("still there?"))
		})
	}
}

// What was written before Shutdown, Close or a panic arrives whole, however slowly it is read, and the good-bye comes after it.
func TestEngineFlushesBeforeTheEnd(t *testing.T) {
	for name, end := range map[string]struct {
		end  func(h *host, conn *server.Conn)
		code int
	}{
		"Shutdown": {func(h *host, _ *server.Conn) { h.Shutdown() }, 1001},
		"Close":    {func(_ *host, conn *server.Conn) { conn.Close() }, 1000},
	} {
		for engine, on := range engines() {
			for _, network := range networks {
				t.Run(name+" "+engine+" "+network, func(t *testing.T) {
					h := newHost(network, on, server.WithConnWriteBufferBytes(64<<20), server.WithWriteTimeout(patience))
					flushesBeforeTheEnd(t, h, end.code, func(conn *server.Conn) { end.end(h, conn) })
				})
			}
		}
	}
}

func flushesBeforeTheEnd(t *testing.T, h *host, code int, end func(conn *server.Conn)) {
	const packets = 200
	h.start0(t)
	p, conn := h.dial(t)
	r := rand.New(rand.NewPCG(3, 4))
	var all [][]byte
	for i := range packets {
		all = append(all, append(fmt.Appendf(nil, "%d ", i), make([]byte, 32<<10+r.IntN(32<<10))...))
		conn.Write(all[i])
	}
	end(conn)
	got := p.ExpectFarewell(code)
	assert.ErrorIs(t, await(t, write(conn, []byte("too late")), "callback"), net.ErrClosed)
	if assert.Equal(t, packets, len(got)) {
		for i := range all {
			require.True(t, bytes.Equal(all[i], got[i]), "packet %d", i)
		}
	}
	p.Farewell()
	p.ExpectEnd()
	h.Shutdown()
	assert.NoError(t, await(t, h.ended, "end of Run"))
}
