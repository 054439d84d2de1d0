//go:build unix

package frame_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// narrowPair returns the ends of a connection that holds less than a mebibyte.
func narrowPair(t testing.TB, network string) (near, far net.Conn) {
	near, far = pair(t, network)
	require.NoError(t, near.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(64<<10))
	require.NoError(t, far.(interface{ SetReadBuffer(int) error }).SetReadBuffer(64<<10))
	return near, far
}

// A full kernel buffer takes a part, then nothing, and once there is room goes on where it was.
func TestSocketWriteNowIsPartial(t *testing.T) {
	for _, network := range socketNetworks {
		t.Run(network, func(t *testing.T) {
			near, far := narrowPair(t, network)
			s := frame.SocketOf(near)
			want := noise(4 << 20)
			n, err := s.WriteNow(want)
			require.NoError(t, err)
			require.Greater(t, n, 0)
			require.Less(t, n, len(want), "the kernel takes it all")
			got, rest := make([]byte, 0, len(want)), want[n:]
			for len(got)+len(rest) < len(want) || len(rest) > 0 {
				if n > 0 { // what was taken is read, which makes room
					read := make([]byte, n)
					_, err := io.ReadFull(far, read)
					require.NoError(t, err)
					got = append(got, read...)
				} else {
					runtime.Gosched()
				}
				n, err = s.WriteNow(rest)
				require.NoError(t, err)
				rest = rest[n:]
			}
			near.Close()
			tail, err := io.ReadAll(far)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, append(got, tail...)))
		})
	}
}

func TestSocketWriteNowOfNothing(t *testing.T) {
	near, _ := pair(t, "tcp")
	n, err := frame.SocketOf(near).WriteNow(nil)
	assert.NoError(t, err)
	assert.Zero(t, n)
}

func TestSocketWriteNowEnds(t *testing.T) {
	near, far := pair(t, "unix")
	s := frame.SocketOf(near)
	require.NoError(t, near.SetWriteDeadline(time.Unix(1, 0)))
	_, err := s.WriteNow([]byte("x"))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded, "which is why Outbound.Write takes its deadline back")
	require.NoError(t, near.SetWriteDeadline(time.Time{}))
	n, err := s.WriteNow([]byte("x"))
	assert.NoError(t, err)
	assert.Equal(t, 1, n)

	far.Close()
	_, err = s.WriteNow([]byte("x"))
	var syscallErr *os.SyscallError
	require.ErrorAs(t, err, &syscallErr, "the peer has gone")
	assert.Equal(t, "send", syscallErr.Syscall)
	near.Close()
	_, err = s.WriteNow([]byte("x"))
	assert.ErrorIs(t, err, net.ErrClosed)
}

// A packet that the kernel took the first part of is finished by a write that waits, and the deadline of that one ends with it.
func TestOutboundGoesOnWaiting(t *testing.T) {
	for _, network := range socketNetworks {
		t.Run(network, func(t *testing.T) {
			near, far := narrowPair(t, network)
			o := frame.NewOutbound(near, &frame.Style{Framer: frame.Default()}, time.Minute)
			require.True(t, o.Eager())
			payloads := []string{"small", string(noise(4 << 20)), "another", ""}
			list := packets(payloads...)
			n, err := o.WriteNow(list)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.True(t, o.Pending())
			read := make(chan []byte, 1)
			go func() {
				all, _ := io.ReadAll(far)
				read <- all
			}()
			m, err := o.Write(list[n:])
			require.NoError(t, err)
			assert.Equal(t, len(list), n+m)
			assert.False(t, o.Pending())
			n, err = o.WriteNow(packets("now"))
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
			near.Close()
			assert.True(t, bytes.Equal(framed(t, frame.Default(), append(payloads, "now")...), <-read))
		})
	}
}
