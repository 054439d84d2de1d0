package frame_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

func TestFramerBytes(t *testing.T) {
	long := strings.Repeat("z", 300)
	cases := []struct {
		name   string
		framer frame.Framer
		packet string
		want   string
	}{
		{"default", frame.Default(), "abc", "\x00\x00\x00\x03abc"},
		{"default, empty", frame.Default(), "", "\x00\x00\x00\x00"},
		{"length 1", length(1, nil), "abc", "\x03abc"},
		{"length 1, largest", length(1, nil), long[:255], "\xff" + long[:255]},
		{"length 2", length(2, nil), long, "\x01\x2c" + long},
		{"length 2 little", length(2, binary.LittleEndian), long, "\x2c\x01" + long},
		{"length 4", length(4, nil), long, "\x00\x00\x01\x2c" + long},
		{"length 4 little", length(4, binary.LittleEndian), long, "\x2c\x01\x00\x00" + long},
		{"uvarint", frame.Uvarint(), "abc", "\x03abc"},
		{"uvarint, one byte", frame.Uvarint(), long[:127], "\x7f" + long[:127]},
		{"uvarint, two bytes", frame.Uvarint(), long[:128], "\x80\x01" + long[:128]},
		{"uvarint, 300", frame.Uvarint(), long, "\xac\x02" + long},
		{"line", frame.Line(), "abc", "abc\n"},
		{"line, empty", frame.Line(), "", "\n"},
		{"line, inner carriage return", frame.Line(), "a\rb", "a\rb\n"},
		{"raw", frame.Raw(), "abc", "abc"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.framer.Append([]byte("before"), []byte(tt.packet))
			require.NoError(t, err)
			assert.Equal(t, "before"+tt.want, string(got))
			packet, size, err := tt.framer.Next([]byte(tt.want), 300)
			require.NoError(t, err)
			assert.Equal(t, len(tt.want), size)
			assert.Equal(t, tt.packet, string(packet))
		})
	}
}

func TestLengthWidths(t *testing.T) {
	for _, width := range []int{-1, 0, 3, 5, 8} {
		f, err := frame.Length(width, binary.BigEndian)
		assert.ErrorIs(t, err, frame.ErrBadLength, width)
		assert.Nil(t, f)
	}
}

func TestFramerCantExpress(t *testing.T) {
	cases := []struct {
		name     string
		framer   frame.Framer
		packet   []byte
		tooLarge int // limit that the error names
	}{
		{"256 bytes", length(1, nil), make([]byte, 256), math.MaxUint8},
		{"65536 bytes", length(2, nil), make([]byte, 65536), math.MaxUint16},
		{"line feed", frame.Line(), []byte("a\nb"), 0},
		{"only a line feed", frame.Line(), []byte("\n"), 0},
		{"carriage return at the end", frame.Line(), []byte("a\r"), 0},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			dst := append(make([]byte, 0, 1<<17), "before"...)
			got, err := tt.framer.Append(dst, tt.packet)
			require.Error(t, err)
			assert.Equal(t, "before", string(got))
			var tooLarge *frame.TooLargeError
			assert.Equal(t, tt.tooLarge > 0, errors.As(err, &tooLarge))
			if tooLarge != nil {
				assert.Equal(t, frame.TooLargeError{Size: uint64(len(tt.packet)), Limit: tt.tooLarge}, *tooLarge)
			}
		})
	}
	for width, largest := range map[int]int{1: 255, 2: 65535} {
		_, err := length(width, nil).Append(nil, make([]byte, largest))
		assert.NoError(t, err)
	}
}

// What arrives in parts is a packet with its last byte, not before, and what comes behind it stays.
func TestFramerByteByByte(t *testing.T) {
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			for _, want := range []string{"", "a", "some more", strings.Repeat("long ", 50)} {
				whole := framed(t, f, want)
				for n := range whole {
					packet, size, err := f.Next(bytes.Clone(whole[:n]), 250)
					require.NoError(t, err, "%d of %d bytes", n, len(whole))
					require.Zero(t, size)
					require.Nil(t, packet)
				}
				packet, size, err := f.Next(append(bytes.Clone(whole), whole...), 250)
				require.NoError(t, err)
				assert.Equal(t, len(whole), size)
				assert.Equal(t, want, string(packet))
				assert.NotNil(t, packet, "an empty packet is one")
				assert.Equal(t, len(packet), cap(packet), "appending to it must not reach what comes behind")
			}
		})
	}
}

// The limit is on the packet, without its marks, and known from the head alone.
func TestFramerLimit(t *testing.T) {
	const limit = 200
	for _, f := range framers {
		t.Run(f.name, func(t *testing.T) {
			whole := framed(t, f, strings.Repeat("x", limit))
			packet, size, err := f.Next(whole, limit)
			require.NoError(t, err)
			assert.Len(t, packet, limit)
			assert.Equal(t, len(whole), size)

			_, size, err = f.Next(framed(t, f, strings.Repeat("x", limit+1)), limit)
			assert.Zero(t, size)
			var tooLarge *frame.TooLargeError
			require.ErrorAs(t, err, &tooLarge)
			assert.Equal(t, frame.TooLargeError{Size: limit + 1, Limit: limit}, *tooLarge)
		})
	}
	heads := []struct {
		name   string
		framer frame.Framer
		head   string
		size   uint64
	}{
		{"length 1", length(1, nil), "\xc9", 201},
		{"length 2 little", length(2, binary.LittleEndian), "\xff\xff", math.MaxUint16},
		{"length 4", frame.Default(), "\xff\xff\xff\xff", math.MaxUint32},
		{"uvarint", frame.Uvarint(), "\xc9\x01", 201},
		{"uvarint, largest", frame.Uvarint(), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", math.MaxUint64},
		{"line without end", frame.Line(), strings.Repeat("x", 201), 201},
	}
	for _, tt := range heads {
		t.Run("only the head, "+tt.name, func(t *testing.T) {
			_, size, err := tt.framer.Next([]byte(tt.head), limit)
			assert.Zero(t, size)
			var tooLarge *frame.TooLargeError
			require.ErrorAs(t, err, &tooLarge)
			assert.Equal(t, frame.TooLargeError{Size: tt.size, Limit: limit}, *tooLarge)
		})
	}
}

func TestUvarintOverflow(t *testing.T) {
	cases := []struct {
		name, head string
		bad        bool
	}{
		{"nine bytes, more to come", strings.Repeat("\xff", 9), false},
		{"ten bytes, more to come", strings.Repeat("\xff", 10), true},
		{"ten bytes, zero but for more to come", strings.Repeat("\x80", 10), true},
		{"more than 64 bits", strings.Repeat("\xff", 9) + "\x02", true},
		{"eleven bytes", strings.Repeat("\xff", 10) + "\x01", true},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			packet, size, err := frame.Uvarint().Next([]byte(tt.head), math.MaxInt)
			assert.Nil(t, packet)
			assert.Zero(t, size)
			if tt.bad {
				assert.ErrorContains(t, err, "64 bits")
				assert.NotErrorIs(t, err, frame.ErrPacketTooLarge)
			} else {
				assert.NoError(t, err)
			}
		})
	}
	// A length in more bytes than it takes is a length.
	packet, size, err := frame.Uvarint().Next([]byte("\x83\x80\x00abcd"), 10)
	assert.NoError(t, err)
	assert.Equal(t, 6, size)
	assert.Equal(t, "abc", string(packet))
}

func TestLineEnds(t *testing.T) {
	cases := []struct {
		name, buf, packet string
		size              int
		tooLarge          bool
	}{
		{"line feed", "abc\n", "abc", 4, false},
		{"both", "abc\r\n", "abc", 5, false},
		{"one of two carriage returns", "ab\r\r\n", "ab\r", 5, false},
		{"empty", "\n", "", 1, false},
		{"empty, both", "\r\n", "", 2, false},
		{"the first of two", "a\nb\n", "a", 2, false},
		{"carriage return elsewhere", "a\rb\n", "a\rb", 4, false},
		{"only a carriage return", "abc\r", "", 0, false},
		{"limit", "abcd\n", "abcd", 5, false},
		{"limit, both", "abcd\r\n", "abcd", 6, false},
		{"limit, half of the mark", "abcd\r", "", 0, false},
		{"above the limit", "abcde\n", "", 0, true},
		{"above the limit, no end", "abcde", "", 0, true},
		{"above the limit by a carriage return", "abcd\rx", "", 0, true},
		{"above the limit, then a fine one", "abcde\na\n", "", 0, true},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			packet, size, err := frame.Line().Next([]byte(tt.buf), 4)
			assert.Equal(t, tt.size, size)
			assert.Equal(t, tt.packet, string(packet))
			if tt.tooLarge {
				assert.ErrorIs(t, err, frame.ErrPacketTooLarge)
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	packet, size, err := frame.Raw().Next([]byte("abcdef"), 4)
	require.NoError(t, err)
	assert.Equal(t, 4, size)
	assert.Equal(t, "abcd", string(packet))
	assert.Equal(t, 4, cap(packet))
	_, size, err = frame.Raw().Next(nil, 4)
	assert.NoError(t, err)
	assert.Zero(t, size)
	assert.True(t, frame.IsRaw(frame.Raw()))
	for _, f := range framers {
		assert.False(t, frame.IsRaw(f.Framer), f.name)
	}
}
