package server_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// A connection in memory takes nothing until it is read: the queue holds exactly what its bounds say.
func TestSlowConsumer(t *testing.T) {
	cases := map[string]struct {
		opts []server.Option
		size int
		fit  int
	}{
		"packets":         {[]server.Option{server.WithConnWriteBufferSize(5)}, 1, 5},
		"bytes":           {[]server.Option{server.WithConnWriteBufferBytes(1000)}, 300, 3},
		"default packets": {[]server.Option{server.WithConnWriteBufferSize(0)}, 1, server.DefaultConnWriteBufferSize},
		"default bytes":   {[]server.Option{server.WithConnWriteBufferBytes(-1)}, 64 << 10, server.DefaultConnWriteBufferBytes / (64 << 10)},
	}
	for name, tt := range cases {
		for _, network := range []string{tcp, ws} {
			t.Run(name+" "+network, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := serveMemory(t, network, tt.opts...)
					_, slow := h.dial(t)
					other, _ := h.dial(t)
					results := make(chan error, tt.fit+2)
					for range tt.fit {
						slow.Write(make([]byte, tt.size), func(err error) { results <- err })
					}
					synctest.Wait()
					require.False(t, slow.IsClosed(), "%d packets fit", tt.fit)
					err := <-write(slow, make([]byte, tt.size))
					assert.ErrorIs(t, err, server.ErrSlowConsumer)
					assert.ErrorIs(t, err, net.ErrClosed)
					assert.Equal(t, server.ErrSlowConsumer, h.end(t))
					for range tt.fit {
						assert.ErrorIs(t, <-results, net.ErrClosed)
					}
					assert.EqualValues(t, 1, h.Stats().SlowConsumers)
					assert.ErrorIs(t, <-write(slow, nil), server.ErrSlowConsumer)

					h.echo()
					other.Write(text, []byte("unaffected"))
					other.Expect(text, []byte("unaffected"))
				})
			})
		}
	}
}

// Many who write at once to one who doesn't read: one slow consumer, and each of them gets an error.
func TestSlowConsumerOnce(t *testing.T) {
	h := serveMemory(t, tcp, server.WithConnWriteBufferSize(3))
	_, slow := h.dial(t)
	const writers = 50
	results := make(chan error, 2*writers)
	var start, ended sync.WaitGroup
	start.Add(1)
	for range writers {
		ended.Go(func() { start.Wait(); slow.Write([]byte("x"), func(err error) { results <- err }) })
	}
	start.Done()
	ended.Wait()
	assert.Equal(t, server.ErrSlowConsumer, h.end(t))
	for range writers {
		assert.ErrorIs(t, await(t, results, "callback"), net.ErrClosed)
	}
	assert.Empty(t, results)
	assert.EqualValues(t, 1, h.Stats().SlowConsumers)
}

// A single packet may be larger than the queue, as long as it is alone.
func TestLargestPacketFits(t *testing.T) {
	h := serve(t, ws, server.WithConnWriteBufferBytes(100))
	p, conn := h.dial(t)
	conn.Write(make([]byte, 10_000))
	p.Expect(text, make([]byte, 10_000))
	err := await(t, write(conn, make([]byte, 2<<20)), "callback")
	assert.ErrorIs(t, err, server.ErrPacketTooLarge)
	assert.False(t, conn.IsClosed())
}

// Whatever happens to packets, the counters tell it, and their sums agree.
func TestStatsAgree(t *testing.T) {
	for mode, opt := range map[string]server.Option{"direct": nil, "async": server.WithAsyncHandlers(), "serial": server.WithSerialHandlers()} {
		for _, network := range networks {
			t.Run(mode+" "+network, func(t *testing.T) { statsAgree(t, network, opt) })
		}
	}
}

func statsAgree(t *testing.T, network string, opt server.Option) {
	const peers, packets = 12, 60
	h := newHost(network, opt, server.WithConnWriteBufferSize(40))
	var handled, sent, nilled, failed atomic.Uint64
	h.RegConnectionPacketPreprocessEvent(func(_ *server.Server, _ *server.Conn, packet []byte, abort func(), _ func([]byte)) {
		if packet[0]%7 == 0 {
			abort()
		}
	})
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		handled.Add(1)
		sent.Add(1)
		conn.Write(packet, func(err error) {
			if err == nil {
				nilled.Add(1)
			} else {
				failed.Add(1)
			}
		})
		switch packet[0] {
		case 250:
			conn.Close()
		case 251:
			conn.Close(errors.New("enough"))
		case 252:
			panic("on purpose")
		}
	}, 1)
	h.start0(t)
	var sending, reading sync.WaitGroup
	for i := range peers {
		p, conn := h.dial(t)
		reading.Go(func() {
			for {
				if _, _, err := p.Read(); err != nil {
					p.Cut() // or the server would wait for it
					return
				}
			}
		})
		sending.Go(func() {
			for range packets {
				if _, err := p.Conn.Write(p.Packet(binary, []byte{byte(rand.IntN(256))})); err != nil {
					break
				}
			}
			switch i % 4 {
			case 0:
				_, _ = p.Conn.Write(p.Packet(binary, make([]byte, 1<<17)))
			case 1:
				p.Cut()
			case 2:
				h.CloseConn(conn.GetID())
			}
		})
	}
	sending.Wait()
	h.Shutdown()
	require.NoError(t, await(t, h.ended, "end of Run"))
	reading.Wait()
	s := h.Stats()
	msg := fmt.Sprintf("%+v", s)
	assert.EqualValues(t, peers, s.Opened, msg)
	assert.Equal(t, s.Opened, s.Closed, msg)
	assert.Len(t, h.closed, peers, msg)
	assert.Equal(t, s.PacketsReceived, handled.Load()+s.PacketsAborted+s.PacketsDiscarded, msg)
	assert.Equal(t, sent.Load(), s.PacketsWritten+s.WritesFailed, msg)
	assert.Equal(t, nilled.Load(), s.PacketsWritten, msg)
	assert.Equal(t, failed.Load(), s.WritesFailed, msg)
	assert.Zero(t, h.GetOnlineCount())
}
