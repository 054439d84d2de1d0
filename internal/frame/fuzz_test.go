package frame_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// pick returns one of the framers, Raw included.
func pick(which byte) frame.Framer {
	if i := int(which) % (len(framers) + 1); i < len(framers) {
		return framers[i].Framer
	}
	return frame.Raw()
}

// What a framer accepts comes out of it as it went in, whatever is around it.
func FuzzFramerRoundTrip(f *testing.F) {
	for which := range byte(len(framers) + 1) {
		for _, packet := range []string{"", "a", "abc\r", "a\nb", "\x00\xff", string(make([]byte, 255)), string(make([]byte, 300))} {
			f.Add(which, []byte("before"), []byte(packet), []byte("behind"))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, before, packet, behind []byte) {
		framer := pick(which)
		given := bytes.Clone(packet)
		out, err := framer.Append(bytes.Clone(before), packet)
		require.True(t, bytes.Equal(given, packet), "the packet is left alone")
		require.True(t, bytes.HasPrefix(out, before), "so is what was there")
		if err != nil {
			require.Len(t, out, len(before))
			return
		}
		marked := out[len(before):]
		if frame.IsRaw(framer) {
			require.True(t, bytes.Equal(packet, marked))
			return
		}
		got, size, err := framer.Next(append(bytes.Clone(marked), behind...), len(packet))
		require.NoError(t, err)
		require.Equal(t, len(marked), size)
		require.True(t, bytes.Equal(packet, got))
		if len(packet) > 0 {
			_, size, err = framer.Next(marked, len(packet)-1)
			assert.ErrorIs(t, err, frame.ErrPacketTooLarge)
			assert.Zero(t, size)
		}
	})
}

// Next makes sense of any bytes, and only of those it was given.
func FuzzFramerNext(f *testing.F) {
	for which := range byte(len(framers) + 1) {
		for _, buf := range []string{
			"", "\x00", "\x00\x00\x00\x03abc", "\x03\x00\x00\x00abc", "\xff\xff\xff\xff", "abc\r\n", "abc\r",
			"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x83\x80\x00abc",
		} {
			f.Add(which, []byte(buf), uint16(5))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, buf []byte, limit16 uint16) {
		framer, limit := pick(which), int(limit16)+1
		given := bytes.Clone(buf)
		packet, size, err := framer.Next(buf[:len(buf):len(buf)], limit)
		require.True(t, bytes.Equal(given, buf), "the buffer is left alone")
		require.LessOrEqual(t, size, len(buf))
		require.LessOrEqual(t, len(packet), limit)
		switch {
		case err != nil:
			require.Zero(t, size)
			require.Nil(t, packet)
			return
		case size == 0:
			require.Empty(t, packet)
			return
		}
		require.True(t, bytes.Contains(buf[:size], packet))
		_ = append(packet, bytes.Repeat([]byte("!"), cap(packet)-len(packet))...)
		require.True(t, bytes.Equal(given[size:], buf[size:]), "what is behind the packet is not the packet's")
		copy(buf, given)
		// The bytes behind it have no say in it.
		other := append(bytes.Clone(buf[:size]), "\xff\n\x00\xff\n"...)
		if again, n, err := framer.Next(other, limit); !frame.IsRaw(framer) {
			require.NoError(t, err)
			require.Equal(t, size, n)
			require.True(t, bytes.Equal(packet, again))
			_, n, err = framer.Next(buf[:size-1], limit)
			require.NoError(t, err)
			require.Zero(t, n, "a packet without its last byte")
		}
	})
}
