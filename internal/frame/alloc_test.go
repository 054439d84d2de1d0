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

// A packet that a pool has, and bytes that are handed over in part, cost nothing.
func TestOutboundAllocations(t *testing.T) {
	k := &kernel{taken: make([]byte, 0, 1<<20), calls: make([]int, 0, 1<<14)}
	o := newEager(k, frame.Default(), nil)
	list, payload := make([]*frame.Packet, 2), []byte("some packet")
	allocs := testing.AllocsPerRun(1000, func() {
		k.taken, k.calls = k.taken[:0], k.calls[:0]
		list[0], list[1] = frame.BorrowPacket(0, payload), frame.BorrowPacket(0, payload)
		_, _ = o.WriteNow(list)
		for _, p := range list {
			p.Finish(nil)
			p.Recycle()
		}
	})
	assert.Less(t, allocs, 1.0, "but for what the garbage collector took")
}

// So do small packets of a connection that is busy.
func TestSlabAllocations(t *testing.T) {
	var s frame.Slab
	packet := bytes.Repeat([]byte("x"), 64)
	assert.Less(t, testing.AllocsPerRun(1000, func() { s.Copy(packet, 0) }), 64.0/frame.SlabSize*1.1)
}

// And larger ones of which several came with one read.
func TestSlabAllocationsOfABatch(t *testing.T) {
	var s frame.Slab
	packet := bytes.Repeat([]byte("x"), 1<<10)
	batch := func(n int) func() {
		return func() {
			for i := range n {
				s.Copy(packet, (n-1-i)*len(packet))
			}
		}
	}
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, batch(1)))
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, batch(16)))
	assert.EqualValues(t, 4, testing.AllocsPerRun(100, batch(64)))
}
