package conformance

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

var (
	errTooLarge = frame.ErrPacketTooLarge
	errReason   = errors.New("the reason")
	errOther    = errors.New("another reason")
)

// callbacks has the peer leave while packets are on their way. Each callback is called once, with nil for a packet that
// the kernel took, which are those in front, and with an error for each one after them.
func callbacks(t *testing.T, s *subject, p *Peer) {
	const n, size, read = 180, 32 << 10, 10 // more than the sockets of both ends hold
	type result struct {
		number int
		err    error
	}
	results := make(chan result, 2*n)
	var calls [n]atomic.Int32
	if small, ok := p.Conn.(interface{ SetReadBuffer(int) error }); ok {
		require.NoError(t, small.SetReadBuffer(64<<10))
	}
	for i := range n {
		s.write(Binary, payload(size), func(err error) {
			calls[i].Add(1)
			results <- result{i, err}
		})
	}
	for range read {
		p.Expect(Binary, payload(size))
	}
	p.Cut()
	s.end(t)
	written, failed := 0, false
	for i := range n {
		r := await(t, results, "callback")
		require.Equal(t, i, r.number, "in order")
		if r.err != nil {
			failed = true
			continue
		}
		require.False(t, failed, "packet %d was written after one that was not", i)
		written++
	}
	assert.GreaterOrEqual(t, written, read, "what the peer has read was written")
	assert.True(t, failed, "the peer left with packets on their way")
	for i := range n {
		assert.EqualValues(t, 1, calls[i].Load(), "calls of callback %d", i)
	}
}

// handlerOwnsPacket keeps what handlers got while later packets come in.
func handlerOwnsPacket(t *testing.T, s *subject, p *Peer) {
	const n = 200
	kept := make([][]byte, n)
	for i := range n {
		p.Write(Binary, append(numbered(i), payload(i*10)...))
		kept[i] = s.next(t).data
		if i%3 == 0 {
			kept[i] = append(kept[i], "!"...) // into memory of nobody else
		}
	}
	for i := range n {
		want := append(numbered(i), payload(i*10)...)
		if i%3 == 0 {
			want = append(want, '!')
		}
		require.True(t, string(want) == string(kept[i]), "packet %d was changed afterwards", i)
	}
	s.leaves(t, p)
}

// writerReusesPacket writes from one buffer, overwritten as soon as Write has returned.
func writerReusesPacket(t *testing.T, s *subject, p *Peer) {
	n := s.network.burst(200)
	buf := make([]byte, 0, 64)
	for i := range n {
		buf = append(buf[:0], numbered(i)...)
		s.write(Binary, buf, func(error) {})
		clear(buf)
	}
	for i := range n {
		p.Expect(Binary, numbered(i))
	}
	s.leaves(t, p)
}
