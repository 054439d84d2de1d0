package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// The caller may use its slice again when Write returns, and each callback gets the outcome.
func TestWrite(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			require.NoError(t, c.Run())
			defer c.Close()
			outcomes := make(chan error, 2)
			buf := make([]byte, 16)
			const n = 100
			for i := range n {
				copy(buf, fmt.Sprintf("packet %09d", i))
				c.Write(buf)
			}
			clear(buf)
			c.Write(nil, func(err error) { outcomes <- err }, nil, func(err error) { outcomes <- err })
			assert.NoError(t, await(t, outcomes, "first callback"))
			assert.NoError(t, await(t, outcomes, "second callback"))
			for i := range n {
				require.Equal(t, fmt.Sprintf("packet %09d", i), await(t, b.packets, "packet").data)
			}
			assert.Empty(t, await(t, b.packets, "empty packet").data)
		})
	}
}

func TestWriteNotConnected(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	c := client.NewTCP(b.addr)
	var inClosed error
	c.RegConnectionClosedEvent(func(c *client.Client, _ any) { c.Write([]byte("x"), func(err error) { inClosed = err }) })
	refused := func() {
		t.Helper()
		var outcomes []error
		note := func(err error) { outcomes = append(outcomes, err) }
		c.Write([]byte("x"), note, note)
		c.WriteWS(1, []byte("x"), note)
		require.Len(t, outcomes, 3, "before Write returns")
		for _, err := range outcomes {
			assert.ErrorIs(t, err, client.ErrNotConnected)
			assert.ErrorIs(t, err, net.ErrClosed)
		}
	}
	refused()
	l := observe(c)
	require.NoError(t, c.Run())
	c.Close()
	refused()
	await(t, l.closed, "closed event")
	assert.ErrorIs(t, inClosed, client.ErrNotConnected)
}

func TestWriteTooLarge(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr, client.WithMaxPacketSize(1000))
			require.NoError(t, c.Run())
			defer c.Close()
			outcome := make(chan error, 1)
			c.Write(make([]byte, 1065), func(err error) { outcome <- err })
			require.Len(t, outcome, 1, "before Write returns")
			err := <-outcome
			assert.ErrorIs(t, err, client.ErrPacketTooLarge)
			assert.ErrorContains(t, err, "1065")
			assert.ErrorContains(t, err, "1064")
			c.Write([]byte(strings.Repeat("x", 1064)), func(err error) { outcome <- err }) // with a gateway's header
			assert.NoError(t, await(t, outcome, "callback"))
			assert.Len(t, await(t, b.packets, "packet").data, 1064)
		})
	}
}

// Larger than the limit, from the server: the connection ends and the reason says so.
func TestReceiveTooLarge(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr, client.WithMaxPacketSize(1000))
			l := observe(c)
			require.NoError(t, c.Run())
			conn := await(t, b.conns, "connection")
			conn.Write(make([]byte, 1064))
			assert.Len(t, await(t, l.packets, "packet").data, 1064)
			conn.Write(make([]byte, 1065))
			err, _ := await(t, l.closed, "closed event").(error)
			assert.ErrorIs(t, err, client.ErrPacketTooLarge)
			assert.Empty(t, l.packets)
		})
	}
}

// The server isn't reset for a packet that is too large: it reads what was written to it, to the end. A write that fails
// because of that end doesn't become the reason for it.
func TestReceiveTooLargeWithMoreBehind(t *testing.T) {
	var c *client.Client
	all, written := make(chan string, 1), make(chan error, 1)
	addr := listen(t, func(conn *net.TCPConn) {
		assert.NoError(t, await(t, written, "callback"))
		_, err := conn.Write(append(framed(string(make([]byte, 2000))), make([]byte, 256<<10)...))
		assert.NoError(t, err)
		got, err := io.ReadAll(conn)
		assert.NoError(t, err)
		all <- string(got)
		late := make(chan error, 1)
		c.Write([]byte("late"), func(err error) { late <- err })
		assert.Error(t, await(t, late, "callback"))
	})
	c = client.NewTCP(addr, client.WithMaxPacketSize(1000))
	c.RegConnectionOpenedEvent(func(c *client.Client) { c.Write([]byte("hello"), func(err error) { written <- err }) })
	assert.ErrorIs(t, c.Run(true), client.ErrPacketTooLarge)
	assert.Equal(t, string(framed("hello")), await(t, all, "end of the stream"))
}

func TestQueueFull(t *testing.T) {
	t.Run("packets", func(t *testing.T) {
		core := newFakeCore()
		core.hold = make(chan struct{})
		c := client.NewClient(core)
		require.NoError(t, c.RunByBufferSize(4))
		fills(t, c, 4, 1)
		close(core.hold)
		c.Close()
	})
	t.Run("bytes", func(t *testing.T) {
		inMemory, peers := pipes()
		c := client.NewTCP("peer:1", inMemory, client.WithWriteBytes(4096))
		require.NoError(t, c.Run())
		peer := await(t, peers, "connection")
		fills(t, c, 4, 1024)
		go func() { _, _ = io.Copy(io.Discard, peer); peer.Close() }()
		c.Close()
	})
}

// fills writes until the queue is full and no further.
func fills(t *testing.T, c *client.Client, packets, size int) {
	outcomes := make(chan error, packets+1)
	callback := func(err error) { outcomes <- err }
	within(t, "Write", func() {
		for range packets {
			c.Write(make([]byte, size), callback)
		}
		assert.Empty(t, outcomes, "all were queued")
		c.Write(make([]byte, size), callback)
	})
	require.Len(t, outcomes, 1)
	assert.ErrorIs(t, <-outcomes, client.ErrQueueFull)
	assert.ErrorIs(t, c.Enqueue(client.NewPacket(0, make([]byte, size), nil)), client.ErrQueueFull)
	assert.True(t, c.IsConnected(), "the connection goes on")
}

func TestEnqueue(t *testing.T) {
	core := newFakeCore()
	core.hold = make(chan struct{})
	c := client.NewClient(core)
	outcomes := make(chan error, 1)
	p := client.NewPacket(1, []byte("mine"), func(err error) { outcomes <- err })
	assert.ErrorIs(t, c.Enqueue(p), client.ErrNotConnected)
	large := client.NewPacket(1, make([]byte, c.MaxPacketSize()+65), func(err error) { outcomes <- err })
	assert.ErrorIs(t, c.Enqueue(large), client.ErrPacketTooLarge)

	require.NoError(t, c.RunByBufferSize(1))
	require.NoError(t, c.Enqueue(p), "still the caller's after an error")
	assert.True(t, p == await(t, core.writes, "write"), "no copy")
	refused := client.NewPacket(1, []byte("x"), func(err error) { outcomes <- err })
	assert.ErrorIs(t, c.Enqueue(refused), client.ErrQueueFull)
	assert.Empty(t, outcomes, "no callback of a packet that was refused")
	close(core.hold)
	assert.NoError(t, await(t, outcomes, "callback"))
	c.Close()
	assert.ErrorIs(t, c.Enqueue(refused), client.ErrNotConnected)
	assert.Empty(t, outcomes)
}

// countingConn counts what the kernel took.
type countingConn struct {
	*net.TCPConn
	taken atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.taken.Add(int64(n))
	return n, err
}

// A server that resets midway: each callback comes once, in order, and with nil for exactly what the kernel took whole.
func TestCallbacksWhenServerResets(t *testing.T) {
	addr := listen(t, func(conn *net.TCPConn) {
		_, _ = io.CopyN(io.Discard, conn, 1<<20)
		_ = conn.SetLinger(0)
	})
	var counting *countingConn
	count := client.WithDialFunc(func(dial client.DialFunc) client.DialFunc {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			counting = &countingConn{TCPConn: conn.(*net.TCPConn)}
			return counting, nil
		}
	})
	c := client.NewTCP(addr, count, client.WithWriteBytes(64<<20))
	l := observe(c)
	require.NoError(t, c.Run())
	const n, size = 16 << 10, 1000
	var mu sync.Mutex
	outcomes := make([][]error, n)
	var left sync.WaitGroup
	left.Add(n)
	for i := range n {
		c.Write(make([]byte, size), func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if outcomes[i] = append(outcomes[i], err); len(outcomes[i]) == 1 {
				left.Done()
			}
		})
	}
	within(t, "callbacks", left.Wait)
	err, _ := await(t, l.closed, "closed event").(error)
	require.Error(t, err)
	assert.NotErrorIs(t, err, net.ErrClosed, "the reset is the reason, not what this side did then")
	mu.Lock()
	defer mu.Unlock()
	whole := 0
	for i, list := range outcomes {
		require.Len(t, list, 1, "packet %d", i)
		if list[0] == nil {
			require.Equal(t, whole, i, "in order")
			whole++
		}
	}
	assert.Equal(t, int(counting.taken.Load())/(4+size), whole)
	assert.Less(t, whole, n)
}

// The writer meets the end of the connection first, now and then: the reason is the server's orderly end all the same.
func TestOrderlyEndWhileWriting(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			l := observe(c)
			for range 30 {
				require.NoError(t, c.Run())
				conn := await(t, b.conns, "connection")
				var writing sync.WaitGroup
				writing.Go(func() {
					for c.IsConnected() {
						c.Write([]byte("x"))
					}
				})
				conn.Close()
				got := await(t, l.closed, "closed event")
				writing.Wait()
				assert.Nil(t, got)
			}
		})
	}
}

// What the transport can't express costs that packet only.
func TestWriteInexpressible(t *testing.T) {
	b := serve(t, server.NetworkTcp, server.WithFramer(server.LineFramer()))
	c := client.NewTCP(b.addr, client.WithFramer(client.LineFramer()))
	require.NoError(t, c.Run())
	defer c.Close()
	outcomes := make(chan error, 3)
	for _, packet := range []string{"one", "t\nwo", "three"} {
		c.Write([]byte(packet), func(err error) { outcomes <- err })
	}
	assert.NoError(t, await(t, outcomes, "callback"))
	assert.ErrorContains(t, await(t, outcomes, "callback"), "line feed")
	assert.NoError(t, await(t, outcomes, "callback"))
	assert.Equal(t, "one", await(t, b.packets, "packet").data)
	assert.Equal(t, "three", await(t, b.packets, "packet").data)
}

func TestCallbackPanics(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	logger, lines := logged()
	c := client.NewTCP(b.addr, client.WithLogger(logger))
	require.NoError(t, c.Run())
	defer c.Close()
	c.Write([]byte("x"), func(error) { panic(errors.New("oops")) })
	assert.Contains(t, await(t, lines, "log"), "write callback panicked")
	outcome := make(chan error, 1)
	c.Write([]byte("y"), func(err error) { outcome <- err })
	assert.NoError(t, await(t, outcome, "callback"), "the connection goes on")
}
