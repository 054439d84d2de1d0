package kcp_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// TestWireBytes pins the layout that the package's documentation gives.
func TestWireBytes(t *testing.T) {
	id := [16]byte{0: 0xA0, 15: 0xAF}
	zeros := strings.Repeat("\x00", 14)
	assert.Equal(t, "\x01\x00\x00\x00\x15MGKC\x01\xA0"+zeros+"\xAF", string(kcp.HelloFrame(id)))
	assert.Equal(t, "\x02\x00\x00\x00\x21\x01\xA0"+zeros+"\xAF\xA0"+zeros+"\xAF", string(kcp.WelcomeFrame(id, id)))
	assert.Equal(t, "\x07\x00\x00\x00\x05\x03\xE8bye", string(kcp.CloseFrame(1000, "bye")))
	assert.Equal(t, "\x04\x00\x00\x01\x00", string(kcp.AppendHead(nil, kcp.TypeData, 256)))
	assert.Len(t, kcp.CloseFrame(1000, strings.Repeat("x", 500)), kcp.HeadSize+2+123)
}

// TestBadFrames ends a session by each of them.
func TestBadFrames(t *testing.T) {
	cases := []struct {
		name string
		sent []byte
	}{
		{"type 0", kcp.AppendFrame(nil, 0, []byte("x"))},
		{"type 8", kcp.AppendFrame(nil, 8, []byte("x"))},
		{"a second hello", kcp.HelloFrame(kcp.NewID())},
		{"welcome from a client", kcp.WelcomeFrame(kcp.NewID(), kcp.NewID())},
		{"ready twice", kcp.AppendFrame(nil, kcp.TypeReady, make([]byte, 16))},
		{"ping of 129 bytes", kcp.AppendHead(nil, kcp.TypePing, 129)},
		{"close without a code", kcp.AppendFrame(nil, kcp.TypeClose, []byte{3})},
		{"close of 126 bytes", kcp.AppendFrame(nil, kcp.TypeClose, make([]byte, 126))},
	}
	r := newRig(t, kcp.NewTransport())
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, r.address)
			_, err := p.Write(append(wire{}.Packet(0, []byte("before")), c.sent...))
			require.NoError(t, err)
			assert.Equal(t, "before", await(t, r.packets, "packet"))
			assert.ErrorIs(t, await(t, r.closed, "closed event").(error), kcp.ErrBadFrame)
		})
	}
}

// TestFrameLargerThanLimit allocates nothing for it, and little for one that doesn't come.
func TestFrameLargerThanLimit(t *testing.T) {
	const limit = 64 << 20
	cases := []struct {
		name string
		size int
		want error
		most uint64
	}{
		{"too large", limit + 1, server.ErrPacketTooLarge, 4 << 10},
		{"announced only", limit, io.ErrUnexpectedEOF, 16 << 10},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			head := kcp.AppendHead(nil, kcp.TypeData, c.size)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := kcp.ReadFrame(bytes.NewReader(head), limit)
			runtime.ReadMemStats(&after)
			assert.ErrorIs(t, err, c.want)
			assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, c.most)
		})
	}
}

// FuzzReadFrame: whatever comes, what is read is what was there, within the limits, and takes no more than ten times its memory.
func FuzzReadFrame(f *testing.F) {
	f.Add(kcp.HelloFrame(kcp.NewID()))
	f.Add(kcp.CloseFrame(1000, "bye"))
	f.Add(kcp.AppendFrame(nil, kcp.TypeData, bytes.Repeat([]byte("x"), 10_000)))
	f.Add([]byte{4, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 20
		r := bytes.NewReader(in)
		var again []byte
		for {
			kind, body, err := kcp.ReadFrame(r, limit)
			if err != nil {
				known := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
					errors.Is(err, kcp.ErrBadFrame) || errors.Is(err, server.ErrPacketTooLarge)
				assert.True(t, known, "%v", err)
				break
			}
			assert.LessOrEqual(t, cap(body), max(8<<10, 10*len(body)))
			_, _ = kcp.ParseHello(body)
			_, _, _ = kcp.ParseClose(body)
			again = kcp.AppendFrame(again, kind, body)
		}
		assert.True(t, bytes.HasPrefix(in, again))
	})
}
