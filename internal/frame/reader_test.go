package frame_test

import (
	"bytes"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// expect reads packets.
func expect(t *testing.T, r *frame.Reader, packets ...string) {
	t.Helper()
	for i, want := range packets {
		got, err := r.Next()
		require.NoError(t, err, "packet %d", i)
		require.Equal(t, want, string(got), "packet %d", i)
		require.NotNil(t, got)
	}
}

// Packets may be cut anywhere on their way, and the cut may come with a deadline or without.
func TestReaderSplitAtEveryByte(t *testing.T) {
	packets := []string{"first", "", "a third one that is longer", strings.Repeat("x", 200)}
	for _, f := range framers {
		for _, timeout := range []time.Duration{0, time.Minute} {
			t.Run(f.name+"/"+timeout.String(), func(t *testing.T) {
				stream := framed(t, f, packets...)
				for at := range stream {
					near, far := net.Pipe()
					go func() {
						defer far.Close() // right behind the last byte
						_, _ = far.Write(stream[:at])
						_, _ = far.Write(stream[at:])
					}()
					r := frame.NewReader(near, f, 200, timeout, 64)
					expect(t, r, packets...)
					_, err := r.Next()
					require.Equal(t, io.EOF, err, "split at %d", at)
					near.Close()
				}
			})
		}
	}
}

func TestReaderByteByByte(t *testing.T) {
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			conn := &scriptConn{}
			for _, b := range framed(t, f, "first", "", strings.Repeat("x", 200)) {
				conn.chunks = append(conn.chunks, []byte{b})
			}
			r := frame.NewReader(conn, f, 200, 0, 1)
			expect(t, r, "first", "", strings.Repeat("x", 200))
			_, err := r.Next()
			assert.Equal(t, io.EOF, err)
		})
	}
}

// Many packets that came with one read need no other.
func TestReaderManyInOneRead(t *testing.T) {
	conn := &scriptConn{chunks: [][]byte{framed(t, frame.Default(), "a", "b", "c", "d")}}
	r := frame.NewReader(conn, frame.Default(), 10, 0, 0)
	expect(t, r, "a", "b", "c", "d")
	assert.Equal(t, 1, conn.reads)
}

// Packets of all sizes pass a buffer that is smaller than most of them.
func TestReaderBufferGrowsAndShrinks(t *testing.T) {
	var packets []string
	for size := 0; size < 5000; size = size*3/2 + 1 {
		packets = append(packets, strings.Repeat(string(rune('a'+len(packets)%26)), size), "small")
	}
	stream := framed(t, frame.Default(), packets...)
	for _, chunk := range []int{1, 7, 100, 4096, len(stream)} {
		conn := &scriptConn{}
		for rest := stream; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			conn.chunks = append(conn.chunks, bytes.Clone(rest[:min(chunk, len(rest))]))
		}
		expect(t, frame.NewReader(conn, frame.Default(), 5000, 0, 16), packets...)
	}
}

// A packet belongs to the caller: what comes later leaves it alone, and the other way round.
func TestReaderPacketsAreOwned(t *testing.T) {
	conn := &scriptConn{chunks: [][]byte{framed(t, frame.Default(), "aaaa", "bbbb", "cccc")}}
	r := frame.NewReader(conn, frame.Default(), 10, 0, 0)
	first, err := r.Next()
	require.NoError(t, err)
	_ = append(first, "XXXXXXXX"...)
	clear(first)
	expect(t, r, "bbbb", "cccc")
}

func TestReaderEnds(t *testing.T) {
	cases := []struct {
		name   string
		framer frame.Framer
		stream string
		before int // packets
		want   error
	}{
		{"nothing came", frame.Default(), "", 0, io.EOF},
		{"between packets", frame.Default(), "\x00\x00\x00\x01a", 1, io.EOF},
		{"in a head", frame.Default(), "\x00\x00\x00\x01a\x00\x00", 1, io.ErrUnexpectedEOF},
		{"in a packet", frame.Default(), "\x00\x00\x00\x02a", 0, io.ErrUnexpectedEOF},
		{"in a line", frame.Line(), "a\nb", 1, io.ErrUnexpectedEOF},
		{"raw", frame.Raw(), "ab", 1, io.EOF},
		{"too large", frame.Default(), "\x00\x00\x00\x01a\x00\x00\x00\x06", 1, frame.ErrPacketTooLarge},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			for _, timeout := range []time.Duration{0, time.Minute} {
				near, far := net.Pipe()
				go func() { defer far.Close(); _, _ = far.Write([]byte(tt.stream)) }()
				r := frame.NewReader(near, tt.framer, 5, timeout, 0)
				for range tt.before {
					_, err := r.Next()
					require.NoError(t, err)
				}
				packet, err := r.Next()
				assert.Nil(t, packet)
				assert.ErrorIs(t, err, tt.want)
				near.Close()
			}
		})
	}
	t.Run("the network's own error", func(t *testing.T) {
		for _, begun := range []string{"", "\x00\x00"} {
			conn := &scriptConn{chunks: [][]byte{[]byte("\x00\x00\x00\x01a" + begun)}, err: errBroken}
			r := frame.NewReader(conn, frame.Default(), 5, 0, 0)
			expect(t, r, "a")
			_, err := r.Next()
			assert.Equal(t, errBroken, err)
		}
	})
}

// A connection without deadlines loses no packets, only the guard against those that never end.
func TestReaderWithoutDeadlines(t *testing.T) {
	conn := &scriptConn{chunks: [][]byte{[]byte("\x00\x00"), []byte("\x00\x01a\x00"), []byte("\x00\x00\x01b")}}
	expect(t, frame.NewReader(conn, frame.Default(), 5, time.Minute, 0), "a", "b")
}

// A length that is announced costs nothing before its bytes come.
func TestReaderTrustsNoLength(t *testing.T) {
	cases := []struct {
		name  string
		size  uint32
		limit int
		want  error
	}{
		{"at the limit", 1 << 30, 1 << 30, io.ErrUnexpectedEOF},
		{"above the limit", 1<<30 + 1, 1 << 30, frame.ErrPacketTooLarge},
		{"the largest there is", math.MaxUint32, 1 << 10, frame.ErrPacketTooLarge},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			conn := &scriptConn{chunks: [][]byte{announce(tt.size), []byte("begun")}}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := frame.NewReader(conn, frame.Default(), tt.limit, 0, 0).Next()
			runtime.ReadMemStats(&after)
			assert.ErrorIs(t, err, tt.want)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated")
		})
	}
}
