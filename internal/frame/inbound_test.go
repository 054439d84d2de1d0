//go:build unix

package frame_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Whoever asks hears before each read that all is dealt with but a packet's first part.
func TestInboundTellsBeforeItWaits(t *testing.T) {
	stream := framed(t, frame.Default(), "a", "b", "c", "d")
	conn := &scriptConn{chunks: [][]byte{stream[:12], stream[12:15], stream[15:]}}
	r := frame.NewReader(conn, frame.Default(), 10, 0, 0)
	var waits []string
	packets := 0
	r.OnWait(func() {
		waits = append(waits, fmt.Sprintf("%d reads, %d packets, %d bytes", conn.reads, packets, len(r.Bytes())))
	})
	for ; ; packets++ {
		if _, err := r.Next(); err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
	}
	assert.Equal(t, []string{
		"0 reads, 0 packets, 0 bytes", "1 reads, 2 packets, 2 bytes", "2 reads, 3 packets, 0 bytes", "3 reads, 4 packets, 0 bytes",
	}, waits)
}

// The same on a socket, where each wait ends in one read.
func TestInboundTellsBeforeItWaitsOnSockets(t *testing.T) {
	near, far := pair(t, "unix")
	r := frame.NewReader(near, frame.Default(), 10, 0, 0)
	waits := 0
	r.OnWait(func() { waits++ })
	for i := range 3 {
		_, err := far.Write(framed(t, frame.Default(), "a", "b", "c"))
		require.NoError(t, err)
		expect(t, r, "a", "b", "c")
		assert.Equal(t, i+1, waits)
	}
}

// A connection that turns out to be busy keeps a larger buffer from then on, with all that was in the other one.
func TestInboundWiden(t *testing.T) {
	for _, begun := range []string{"", "begun"} {
		near, far := pair(t, "unix")
		b := frame.NewInbound(near, 0)
		if begun != "" {
			_, err := far.Write([]byte("x" + begun))
			require.NoError(t, err)
			require.NoError(t, b.Fill())
			b.Consume(1)
		}
		b.Widen(8 << 10)
		assert.Equal(t, begun, string(b.Bytes()))
		assert.True(t, frame.Pooled(b) == nil, "the other one was given back")
		waitForNothing(t, near, b)
		assert.Equal(t, 8<<10, frame.Held(b))
		_, err := far.Write([]byte(" more"))
		require.NoError(t, err)
		require.NoError(t, b.Fill())
		assert.Equal(t, begun+" more", string(b.Bytes()))
		one, other := b.Copy([]byte("one"), 0), b.Copy([]byte("other"), 0)
		one = append(one, "!"...)
		assert.Equal(t, "one! other", string(one)+" "+string(other))
	}
}

// waitForNothing lets b wait, and for nothing.
func waitForNothing(t *testing.T, conn net.Conn, b *frame.Inbound) {
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	require.ErrorIs(t, b.Fill(), os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
}

// A socket that is idle holds no buffer, one on which a packet is under way does.
func TestInboundHoldsNoBufferWhileIdle(t *testing.T) {
	near, far := pair(t, "unix")
	b := frame.NewInbound(near, 0)
	assert.Zero(t, frame.Held(b))
	for range 3 {
		waitForNothing(t, near, b)
		assert.Zero(t, frame.Held(b))
		assert.True(t, frame.Pooled(b) == nil, "it was given back")

		_, err := far.Write([]byte("begun"))
		require.NoError(t, err)
		require.NoError(t, b.Fill())
		waitForNothing(t, near, b)
		assert.Equal(t, frame.BusyReadBuffer, frame.Held(b))
		assert.Equal(t, "begun", string(b.Bytes()))
		b.Consume(3)
		assert.Equal(t, "un", string(b.Bytes()))
		b.Consume(2)
		assert.Empty(t, b.Bytes())
	}
}

// One buffer of the pool at a time, whatever passes, and none when the connection has ended.
func TestInboundGivesItsBufferBack(t *testing.T) {
	near, far := pair(t, "unix")
	r := frame.NewReader(near, frame.Default(), 1<<20, 0, 0)
	large := strings.Repeat("x", 10*frame.BusyReadBuffer)
	for range 3 {
		stream := framed(t, frame.Default(), "small", large, "small")
		written := make(chan error, 1)
		go func() {
			_, err := far.Write(stream)
			written <- err
		}()
		expect(t, r, "small")
		mine := frame.Pooled(r.Inbound)
		require.True(t, mine != nil)
		expect(t, r, large, "small")
		require.NoError(t, <-written)
		_, err := far.Write(framed(t, frame.Default(), "next"))
		require.NoError(t, err)
		expect(t, r, "next")
		assert.True(t, mine == frame.Pooled(r.Inbound), "another one was taken")
		assert.Equal(t, frame.BusyReadBuffer, frame.Held(r.Inbound), "it has not shrunk")
		waitForNothing(t, near, r.Inbound)
		assert.True(t, frame.Pooled(r.Inbound) == nil)
	}
	_, err := far.Write(framed(t, frame.Default(), "last"))
	require.NoError(t, err)
	expect(t, r, "last")
	far.Close()
	_, err = r.Next()
	assert.Equal(t, io.EOF, err)
	assert.True(t, frame.Pooled(r.Inbound) == nil)
	assert.Zero(t, frame.Held(r.Inbound))
}

// What is kept has the size that was asked for, but while something larger is under way.
func TestInboundGrowsAndShrinks(t *testing.T) {
	for _, size := range []int{0, 16, 100, 8 << 10} {
		want := size
		if size == 0 {
			want = frame.IdleReadBuffer
		}
		conn := &scriptConn{}
		b := frame.NewInbound(conn, size)
		for _, chunk := range []int{1, want, want + 1, 10 * want, 1} {
			conn.chunks = [][]byte{noise(chunk)}
			for len(b.Bytes()) < chunk {
				before := frame.Held(b)
				require.NoError(t, b.Fill())
				assert.LessOrEqual(t, frame.Held(b), max(want, 2*before), "a read doubles it at the most")
			}
			assert.Equal(t, noise(chunk), b.Bytes())
			assert.GreaterOrEqual(t, frame.Held(b), want)
			b.Consume(chunk)
			assert.LessOrEqual(t, frame.Held(b), want)
		}
	}
}

// Packets that are handed over share no byte, with each other or with what is read next, whatever they were copied with.
func TestInboundPacketsDoNotOverlap(t *testing.T) {
	var want []string
	for i := range 300 {
		want = append(want, strings.Repeat(string(rune('a'+i%26)), i*7%1200))
	}
	stream := framed(t, frame.Default(), want...)
	sources := map[string]func() net.Conn{
		"script": func() net.Conn { return &scriptConn{chunks: [][]byte{bytes.Clone(stream)}} },
		"socket": func() net.Conn {
			near, far := pair(t, "unix")
			go func() { _, _ = far.Write(stream) }()
			return near
		},
	}
	for name, source := range sources {
		for _, size := range []int{0, 64, 4 << 10, 32 << 10} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				r := frame.NewReader(source(), frame.Default(), 1200, 0, size)
				var got [][]byte
				for i := range want {
					p, err := r.Next()
					require.NoError(t, err)
					require.Equal(t, want[i], string(p))
					require.Equal(t, len(p), cap(p[:len(p):cap(p)]), "one can append without writing to the next")
					got = append(got, p)
				}
				for i := range got {
					for k := range got[i] {
						got[i][k] = '!'
					}
					_ = append(got[i], "!!!!"...)
					for j := i + 1; j < min(i+3, len(got)); j++ {
						require.Equal(t, want[j], string(got[j]), "packet %d, after %d was changed", j, i)
					}
				}
			})
		}
	}
}
