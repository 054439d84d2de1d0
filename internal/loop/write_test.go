//go:build linux && !noloops

package loop_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the kernel doesn't take is written when it does, in order, whenever the peer reads.
func TestWriteNowInParts(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			l := start(t)
			fd, far := pair(t, network)
			data := make([]byte, 8<<20)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			s := newSpy()
			rest := data
			blocked := make(chan int, 1<<16)
			s.flush = func() {
				n, err := s.WriteNow(rest)
				assert.NoError(t, err)
				assert.Equal(t, n < len(rest), s.Blocked())
				assert.Equal(t, n > 0, s.Taken())
				assert.False(t, s.Taken(), "asked again")
				if rest = rest[n:]; len(rest) == 0 {
					assert.NoError(t, s.CloseWrite())
				}
				blocked <- len(rest)
			}
			s.start = s.Wake
			s.on(l, fd)
			require.Positive(t, await(t, blocked, "Flush"), "the kernel doesn't take all of it")
			s.Wake()
			do(t, l, func() {})
			do(t, l, func() {})
			assert.Empty(t, blocked, "no Flush while the kernel takes nothing")

			other, otherFar := pair(t, network) // is served meanwhile
			echo := newSpy()
			echo.data = func(p []byte) { _, _ = echo.WriteNow(p) }
			echo.on(l, other)
			var got bytes.Buffer
			for got.Len() < len(data) {
				_, err := io.CopyN(&got, far, min(int64(1+rand.IntN(1<<20)), int64(len(data)-got.Len())))
				require.NoError(t, err)
				ask(t, otherFar)
			}
			assert.True(t, bytes.Equal(data, got.Bytes()), "it arrived changed")
			_, err := far.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err)
			far.Close()
			assert.Equal(t, io.EOF, await(t, s.ended, "end"))
			otherFar.Close()
			await(t, echo.ended, "end")
		})
	}
}

// ask expects an echo.
func ask(t *testing.T, far net.Conn) {
	t.Helper()
	_, err := far.Write([]byte("still there?"))
	require.NoError(t, err)
	_, err = io.ReadFull(far, make([]byte, 12))
	require.NoError(t, err)
}

// What was blocked before it was enrolled goes on afterwards: nothing was flushed yet.
func TestWakeBeforeEnroll(t *testing.T) {
	l := start(t)
	fd, far := pair(t, "unix")
	s := newSpy()
	rest := make([]byte, 4<<20)
	s.flush = func() {
		n, err := s.WriteNow(rest)
		assert.NoError(t, err)
		rest = rest[n:]
	}
	s.Init(l, fd, s)
	s.Wake()
	do(t, l, func() {})
	do(t, l, func() { assert.Len(t, rest, 4<<20, "no Flush before Start") })
	s.Enroll()
	_, err := io.CopyN(io.Discard, far, 4<<20)
	require.NoError(t, err)
	far.Close()
	await(t, s.ended, "end")
}

// A write that fails says so, and nothing else: End comes by itself, when nobody is in the middle of something.
func TestFailedWriteEndsNothing(t *testing.T) {
	for _, network := range networks {
		for range 20 {
			l := start(t)
			fd, far := pair(t, network)
			s := newSpy()
			inside := false
			failed := make(chan error, 1)
			s.data = func([]byte) {
				inside = true
				far.Close()
				for {
					if _, err := s.WriteNow(make([]byte, 1<<10)); err != nil {
						failed <- err
						break
					}
					if s.Blocked() {
						t.Error("a socket that is closed takes no more")
						break
					}
				}
				inside = false
			}
			s.end = func(error) {
				assert.False(t, inside, "End in the middle of Data")
				s.Close()
			}
			s.on(l, fd)
			if tcp, ok := far.(*net.TCPConn); ok {
				require.NoError(t, tcp.SetLinger(0))
			}
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			err = await(t, failed, "error")
			assert.True(t, isAny(err, syscall.EPIPE, syscall.ECONNRESET), err)
			await(t, s.ended, "end")
			do(t, l, func() {})
			assert.Empty(t, s.ended)
		}
	}
}
