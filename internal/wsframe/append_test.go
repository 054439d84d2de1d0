package wsframe_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// payload returns size bytes that tell where one is missing.
func payload(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Where the bytes are RFC 6455's own, section 5.7 has them.
func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind int
		data []byte
		head string
	}{
		{"the example of text", frame.KindText, []byte("Hello"), "\x81\x05"},
		{"the example of a ping", frame.KindPing, []byte("Hello"), "\x89\x05"},
		{"the example of 256 bytes", frame.KindBinary, payload(256), "\x82\x7e\x01\x00"},
		{"the example of 64 KiB", frame.KindBinary, payload(65536), "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
		{"a pong", frame.KindPong, []byte("Hello"), "\x8a\x05"},
		{"a close frame", frame.KindClose, []byte("\x03\xe8"), "\x88\x02"},
		{"an empty one", frame.KindText, nil, "\x81\x00"},
		{"125 bytes", frame.KindBinary, payload(125), "\x82\x7d"},
		{"126 bytes", frame.KindBinary, payload(126), "\x82\x7e\x00\x7e"},
		{"65535 bytes", frame.KindBinary, payload(65535), "\x82\x7e\xff\xff"},
		{"1 MiB", frame.KindBinary, payload(1 << 20), "\x82\x7f\x00\x00\x00\x00\x00\x10\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := wsframe.Append([]byte("before"), tt.kind, tt.data)
			head, ok := strings.CutPrefix(string(got[:len(got)-len(tt.data)]), "before")
			assert.True(t, ok, "what was there is left alone")
			assert.Equal(t, tt.head, head)
			assert.True(t, bytes.HasSuffix(got, tt.data))

			key, given := [4]byte{0x37, 0xfa, 0x21, 0x3d}, bytes.Clone(tt.data)
			masked := wsframe.AppendMasked([]byte("before"), tt.kind, tt.data, key)
			assert.True(t, bytes.Equal(given, tt.data), "the payload is left alone")
			want := []byte("before" + tt.head + "\x37\xfa\x21\x3d")
			want[len("before")+1] |= 0x80
			assert.True(t, bytes.Equal(append(want, naive(tt.data, key)...), masked))
			assert.LessOrEqual(t, len(masked)-len("before")-len(tt.data), wsframe.MaxHeaderSize)
		})
	}
}

func TestAppendMaskedGolden(t *testing.T) {
	got := wsframe.AppendMasked(nil, frame.KindText, []byte("Hello"), [4]byte{0x37, 0xfa, 0x21, 0x3d})
	assert.Equal(t, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", string(got))
}

func TestClosePayload(t *testing.T) {
	long := strings.Repeat("€", 41) // 123 bytes
	for _, tt := range []struct {
		name   string
		code   int
		reason string
		want   string
	}{
		{"normal", 1000, "", "\x03\xe8"},
		{"a reason", 1001, "going away", "\x03\xe9going away"},
		{"a code of one's own", 4999, "x", "\x13\x87x"},
		{"the longest reason", 1000, long, "\x03\xe8" + long},
		{"a longer one", 1000, strings.Repeat("x", 200), "\x03\xe8" + strings.Repeat("x", 123)},
		{"a longer one, cut behind 1 byte of a character", 1000, "ab" + long, "\x03\xe8ab" + long[:120]},
		{"a longer one, cut behind 2 bytes of a character", 1000, "a" + long, "\x03\xe8a" + long[:120]},
		{"a longer one, cut behind 3 bytes of a character", 1000, strings.Repeat("x", 120) + "𝄞", "\x03\xe8" + strings.Repeat("x", 120)},
		{"not UTF-8 at the end", 1000, "why\xff", "\x03\xe8why"},
		{"not UTF-8 in the midst", 1000, "w\xffhy", "\x03\xe8w"},
		{"no status", 1005, "reason", ""},
		{"abnormal", 1006, "reason", ""},
		{"TLS", 1015, "", ""},
		{"zero", 0, "", ""},
		{"negative", -1, "", ""},
		{"of 17 bits", 1<<16 + 1000, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := wsframe.ClosePayload(tt.code, tt.reason)
			assert.Equal(t, tt.want, string(got))
			require.LessOrEqual(t, len(got), wsframe.MaxControlSize)
			if len(got) > 0 {
				assert.True(t, utf8.Valid(got[2:]))
				_, _, err := new(wsframe.Parser).Next(wsframe.Append(nil, frame.KindClose, got))
				assert.Equal(t, &wsframe.CloseError{Code: tt.code, Reason: string(got[2:])}, err)
			}
		})
	}
}

func naive(b []byte, mask [4]byte) []byte {
	masked := bytes.Clone(b)
	for i := range masked {
		masked[i] ^= mask[i%4]
	}
	return masked
}

// Mask masks what it is given, wherever in memory that begins, and nothing beside it.
func TestMask(t *testing.T) {
	for _, mask := range [][4]byte{{}, {0xFF, 0xFF, 0xFF, 0xFF}, {1, 2, 4, 8}, {0x80, 0, 0xFF, 0x7F}} {
		for at := range 17 {
			for size := range 150 {
				memory := payload(at + size + 17)
				want := bytes.Clone(memory)
				copy(want[at:], naive(memory[at:at+size], mask))
				wsframe.Mask(memory[at:at+size], mask)
				require.True(t, bytes.Equal(want, memory), "%d bytes at %d, mask %x", size, at, mask)
			}
		}
	}
}
