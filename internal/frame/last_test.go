package frame_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// taker takes room bytes, and no more.
type taker struct {
	room int
	got  []byte
}

func (w *taker) WriteNow(p []byte) (int, error) {
	n := min(w.room, len(p))
	w.room -= n
	w.got = append(w.got, p[:n]...)
	return n, nil
}

// Last words come behind whole packets only, and whole.
func TestLastNow(t *testing.T) {
	style := &frame.Style{Framer: frame.Line()}
	packets := []*frame.Packet{frame.NewPacket(0, []byte("abc"), nil)}
	for _, tt := range []struct {
		name string
		room int
		want string
		err  error
	}{
		{"all of it", 100, "abc\nbye", nil},
		{"a packet is cut", 2, "ab", frame.ErrCutShort},
		{"they are cut themselves", 5, "abc\nb", frame.ErrCutShort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cut frame.Cut
			w := &taker{room: tt.room}
			_, err := cut.WriteNow(w, style, packets)
			require.NoError(t, err)
			assert.ErrorIs(t, cut.LastNow(w, []byte("bye")), tt.err)
			assert.Equal(t, tt.want, string(w.got))
		})
	}
}

func TestLast(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	style := &frame.Style{Framer: frame.Line()}
	out := frame.NewWaitingOutbound(near, style, 10*time.Millisecond)
	assert.False(t, out.Eager())
	assert.Error(t, out.Last([]byte("bye"), 10*time.Millisecond), "nobody reads")
	got := make(chan string, 1)
	read := func(n int) {
		b := make([]byte, n)
		_, err := io.ReadFull(far, b)
		assert.NoError(t, err)
		got <- string(b)
	}
	go read(3)
	require.NoError(t, out.Last([]byte("bye"), time.Minute))
	assert.Equal(t, "bye", <-got)
	go read(2)
	_, err := out.Write([]*frame.Packet{frame.NewPacket(0, []byte("abc"), nil)})
	require.Error(t, err)
	assert.Equal(t, "ab", <-got)
	assert.ErrorIs(t, out.Last([]byte("bye"), time.Minute), frame.ErrCutShort)
}

// What was read elsewhere comes first, however much it is.
func TestInboundPut(t *testing.T) {
	for _, size := range []int{0, 1, 5, 64 << 10} {
		near, far := net.Pipe()
		early := make([]byte, size)
		for i := range early {
			early[i] = byte(i)
		}
		in := frame.NewInbound(near, 4<<10)
		in.Put(early)
		early = append(early, "behind it"...)
		go func() { _, _ = far.Write([]byte("behind it")); far.Close() }()
		for len(in.Bytes()) < len(early) {
			require.NoError(t, in.Fill())
		}
		assert.True(t, string(early) == string(in.Bytes()), "%d bytes", size)
		in.Consume(len(early))
		assert.ErrorIs(t, in.Fill(), io.EOF)
		near.Close()
	}
}
