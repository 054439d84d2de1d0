package frame_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// cutter cuts packets from chunks as an event loop's connection does.
type cutter struct {
	frame.Pieces
	framer frame.Framer
	got    []string
}

func (c *cutter) data(t testing.TB, chunk []byte) {
	buf := bytes.Clone(chunk) // the loop's, which is used again
	p, whole := c.Join(buf), false
	for len(p) > 0 {
		packet, size, err := c.framer.Next(p, 1000)
		require.NoError(t, err)
		if size == 0 {
			break
		}
		c.got = append(c.got, string(packet))
		p, whole = p[size:], true
	}
	c.Keep(p, whole)
	clear(buf)
}

// Packets may come in any three chunks.
func TestPiecesSplitAnywhere(t *testing.T) {
	want := []string{"first", "", "the third"}
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			stream := framed(t, f, want...)
			for i := range len(stream) + 1 {
				for j := i; j <= len(stream); j++ {
					c := &cutter{framer: f}
					c.data(t, stream[:i])
					c.data(t, stream[i:j])
					c.data(t, stream[j:])
					require.Equal(t, want, c.got, "split at %d and %d", i, j)
					require.Zero(t, c.Len())
					require.False(t, c.Overdue(time.Now().Add(time.Hour), time.Second))
				}
			}
		})
	}
}

func TestPiecesByteByByte(t *testing.T) {
	want := []string{"first", "", strings.Repeat("x", 500)}
	c := &cutter{framer: frame.Default()}
	kept := 0
	for _, b := range framed(t, frame.Default(), want...) {
		before := len(c.got)
		c.data(t, []byte{b})
		if kept++; len(c.got) > before {
			kept = 0
		}
		require.Equal(t, kept, c.Len())
	}
	assert.Equal(t, want, c.got)
}

// A packet's time begins with its first byte. Neither its own bytes nor whole packets before it change that.
func TestPiecesOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		overdue := func(c *cutter) bool { return c.Overdue(time.Now(), limit) }
		stream := framed(t, frame.Default(), "first", "second")
		c := &cutter{framer: frame.Default()}
		assert.False(t, overdue(c), "nothing came")
		c.data(t, nil)
		time.Sleep(2 * limit)
		assert.False(t, overdue(c), "nothing was begun")

		c.data(t, stream[:1])
		for i := 1; i <= 5; i++ { // traffic within the packet
			time.Sleep(limit / 5)
			assert.False(t, overdue(c))
			c.data(t, stream[i:i+1])
			c.data(t, nil)
		}
		time.Sleep(time.Nanosecond)
		assert.True(t, overdue(c), "its bytes have given it no more time")

		c.data(t, stream[6:10]) // its end, and the next one's beginning
		assert.Equal(t, []string{"first"}, c.got)
		assert.False(t, overdue(c), "the next one's time begins")
		time.Sleep(limit)
		assert.False(t, overdue(c))
		time.Sleep(time.Nanosecond)
		assert.True(t, overdue(c))
		c.data(t, stream[10:])
		assert.Equal(t, []string{"first", "second"}, c.got)
		time.Sleep(2 * limit)
		assert.False(t, overdue(c), "all is there")
	})
}

// What is kept has been copied, and is let go of when it is not needed any more.
func TestPiecesKeepACopy(t *testing.T) {
	var s frame.Pieces
	chunk := []byte("whole,rest")
	p := s.Join(chunk)
	assert.True(t, &p[0] == &chunk[0], "what came at once is not copied")
	s.Keep(p[6:], true)
	copy(chunk, "XXXXXXXXXX")
	assert.Equal(t, "rest of it", string(s.Join([]byte(" of it"))))
	s.Keep(s.Join(nil), false)
	assert.Equal(t, 10, s.Len())
	s.Keep(nil, true)
	assert.Equal(t, frame.Pieces{}, s)
}
