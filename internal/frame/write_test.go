package frame_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// packets makes packets for WriteStream.
func packets(payloads ...string) []*frame.Packet {
	list := make([]*frame.Packet, len(payloads))
	for i, p := range payloads {
		list[i] = frame.NewPacket(frame.KindNone, []byte(p), nil)
	}
	return list
}

// A connection that takes only so many bytes has taken those packets that they hold whole.
func TestWriteStreamPartialWrites(t *testing.T) {
	payloads := []string{"a", "", "some more", "x", "the last of them"}
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			stream := framed(t, f, payloads...)
			var ends []int
			for i := range payloads {
				ends = append(ends, len(framed(t, f, payloads[:i+1]...)))
			}
			for k := 0; k <= len(stream); k++ {
				conn := &takeConn{left: k}
				n, err := frame.WriteStream(conn, f, packets(payloads...), 0)
				want := 0
				for want < len(ends) && ends[want] <= k {
					want++
				}
				require.Equal(t, want, n, "%d bytes taken", k)
				if k < len(stream) {
					require.ErrorIs(t, err, errBroken)
				} else {
					require.NoError(t, err)
				}
				require.Equal(t, string(stream[:k]), string(conn.taken))
			}
		})
	}
}

// The same with what takes more than one write.
func TestWriteStreamPartialGathers(t *testing.T) {
	const size = 20 << 10
	all := packets()
	for range 10 {
		all = append(all, packets(string(make([]byte, size)))...)
	}
	for _, whole := range []int{0, 1, 2, 3, 4, 8, 9} {
		for _, more := range []int{0, 1, size + 3} {
			conn := &takeConn{left: whole*(size+4) + more}
			n, err := frame.WriteStream(conn, frame.Default(), all, 0)
			assert.ErrorIs(t, err, errBroken)
			assert.Equal(t, whole, n, "%d packets and %d bytes taken", whole, more)
		}
	}
}

func TestWriteStreamGathers(t *testing.T) {
	cases := []struct {
		name   string
		sizes  []int
		writes int
	}{
		{"nothing", nil, 0},
		{"many small ones", make([]int, 1000), 1},
		{"up to the bound", []int{32 << 10, 32<<10 - 4}, 1},
		{"beyond the bound", []int{32 << 10, 32 << 10}, 2},
		{"one that is larger", []int{1 << 20}, 1},
		{"one that is larger among small ones", []int{10, 1 << 20, 10, 10}, 3},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			var payloads []string
			for i, size := range tt.sizes {
				payloads = append(payloads, string(bytes.Repeat([]byte{byte(i)}, size)))
			}
			conn := &takeConn{left: 1 << 30}
			n, err := frame.WriteStream(conn, frame.Default(), packets(payloads...), 0)
			require.NoError(t, err)
			assert.Equal(t, len(tt.sizes), n)
			assert.Equal(t, tt.writes, conn.writes)
			assert.True(t, bytes.Equal(framed(t, frame.Default(), payloads...), conn.taken))
			assert.Zero(t, conn.deadline, "no timeout, no deadline")
		})
	}
}

// A packet that can't be expressed costs its neighbours nothing, wherever it is.
func TestWriteStreamRefusedPackets(t *testing.T) {
	const bad = "line\nfeed"
	cases := []struct {
		name     string
		payloads []string
		taken    int // bytes
		want     string
		n        int
	}{
		{"first", []string{bad, "a", "b"}, 100, "a\nb\n", 3},
		{"between", []string{"a", bad, bad, "b"}, 100, "a\nb\n", 4},
		{"last", []string{"a", "b", bad}, 100, "a\nb\n", 3},
		{"alone", []string{bad}, 0, "", 1},
		{"before the break", []string{"a", bad, "b", "c"}, 5, "a\nb\nc", 3},
		{"behind the break", []string{"a", "b", bad, "c"}, 3, "a\nb", 1},
		{"first, and nothing is taken", []string{bad, "a"}, 0, "", 1},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			outcomes := map[int]error{}
			var list []*frame.Packet
			for i, p := range tt.payloads {
				list = append(list, frame.NewPacket(0, []byte(p), func(err error) { outcomes[i] = err }))
			}
			conn := &takeConn{left: tt.taken}
			n, err := frame.WriteStream(conn, frame.Line(), list, 0)
			assert.Equal(t, tt.n, n)
			assert.Equal(t, tt.n < len(list), errors.Is(err, errBroken))
			assert.Equal(t, tt.want, string(conn.taken))
			for i, p := range list {
				assert.Equal(t, tt.payloads[i] == bad, p.Refused(), "packet %d", i)
				p.Finish(nil)
				if tt.payloads[i] == bad {
					assert.ErrorContains(t, outcomes[i], "line feed")
				} else {
					assert.NoError(t, outcomes[i])
				}
			}
		})
	}
}

// deadlineConn refuses deadlines.
type deadlineConn struct{ takeConn }

func (c *deadlineConn) SetWriteDeadline(time.Time) error { return net.ErrClosed }

func TestWriteStreamTimeout(t *testing.T) {
	conn := &takeConn{left: 100}
	_, err := frame.WriteStream(conn, frame.Default(), packets("a"), time.Minute)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Minute), conn.deadline, 30*time.Second)

	closed := &deadlineConn{takeConn{left: 100}}
	n, err := frame.WriteStream(closed, frame.Default(), packets("a"), time.Minute)
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.Zero(t, n)
	assert.Zero(t, closed.writes)
}

// Buffers are shared by all connections, one after another: nothing of a write shows in a later one.
func TestWriteStreamSharesBuffers(t *testing.T) {
	t.Parallel()
	for worker := range 8 {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			for i := range 200 {
				payloads := []string{fmt.Sprint(worker), string(bytes.Repeat([]byte{byte(worker)}, i*700)), fmt.Sprint(i)}
				conn := &takeConn{left: 1 << 30}
				_, err := frame.WriteStream(conn, frame.Default(), packets(payloads...), 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(framed(t, frame.Default(), payloads...), conn.taken))
			}
		})
	}
}
