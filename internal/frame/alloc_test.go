//go:build !race

package frame_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

func TestFramerAllocations(t *testing.T) {
	packet := bytes.Repeat([]byte("x"), 200)
	dst := make([]byte, 0, 512)
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = f.Append(dst, packet) }))
			whole := framed(t, f, string(packet))
			assert.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = f.Next(whole, 200) }))
		})
	}
}

// Reading costs the packet that is handed over, and nothing else.
func TestReaderAllocations(t *testing.T) {
	conn := &repeatConn{bytes: framed(t, frame.Default(), "some packet", "and another")}
	r := frame.NewReader(conn, frame.Default(), 100, 0, 0)
	assert.Equal(t, 1.0, testing.AllocsPerRun(100, func() {
		_, err := r.Next()
		require.NoError(t, err)
	}))
}

func TestWriteStreamAllocations(t *testing.T) {
	list := packets("some packet", "and another", "and a third")
	conn, framer := &sinkConn{}, frame.Default()
	allocs := testing.AllocsPerRun(1000, func() { _, _ = frame.WriteStream(conn, framer, list, 0) })
	assert.Less(t, allocs, 1.0, "but for buffers that the garbage collector took")
}
