//go:build linux && !noloops

package loop_test

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

// block keeps the loop from looking until the returned function is called.
func block(t testing.TB, l *loop.Loop) (release func()) {
	t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	require.True(t, l.Do(func() { close(busy); <-free }))
	await(t, busy, "call on the loop")
	return func() { close(free) }
}

// What has come by the time the loop looks is told of once: all of it is read nevertheless, however much, and the end behind it.
func TestReadsAllThatIsThere(t *testing.T) {
	const size = 180 << 10 // above what one read takes, below what a socket holds
	ends := map[string]struct {
		end  func(far net.Conn)
		want error
	}{
		"and waits":           {func(net.Conn) {}, nil},
		"to the peer's end":   {func(far net.Conn) { far.Close() }, io.EOF},
		"to the stream's end": {func(far net.Conn) { far.(interface{ CloseWrite() error }).CloseWrite() }, io.EOF},
	}
	for _, network := range networks {
		for name, test := range ends {
			for _, n := range []int{3, size} {
				t.Run(network+"/"+name, func(t *testing.T) {
					l := start(t)
					fd, far := pair(t, network)
					want := bytes.Repeat([]byte("abc"), n/3)
					var got []byte
					all := make(chan struct{})
					s := newSpy()
					s.data = func(p []byte) {
						if got = append(got, p...); len(got) == len(want) {
							close(all)
						}
					}
					s.on(l, fd)
					do(t, l, func() {}) // it is enrolled
					release := block(t, l)
					_, err := far.Write(want)
					require.NoError(t, err)
					test.end(far)
					release()
					await(t, all, "all of it")
					assert.Equal(t, want, got)
					if test.want != nil {
						assert.Equal(t, test.want, await(t, s.ended, "the end"))
					}
				})
			}
		}
	}
}

// A peer that sends more than one read takes doesn't keep the loop for itself: others are read in between.
func TestReadsInTurn(t *testing.T) {
	l := start(t)
	fd1, flood := pair(t, "unix")
	fd2, calm := pair(t, "unix")
	var turns []string
	done := make(chan struct{}, 2)
	a, b := newSpy(), newSpy()
	a.data = func(p []byte) { turns = append(turns, "flood"); done <- struct{}{} }
	b.data = func(p []byte) { turns = append(turns, "calm"); done <- struct{}{} }
	a.on(l, fd1)
	b.on(l, fd2)
	do(t, l, func() {})
	release := block(t, l)
	_, err := flood.Write(make([]byte, 100<<10))
	require.NoError(t, err)
	_, err = calm.Write([]byte("hello"))
	require.NoError(t, err)
	release()
	for range 3 {
		await(t, done, "a read")
	}
	do(t, l, func() {})
	assert.Equal(t, []string{"flood", "calm", "flood"}, turns)
}

// A read ends where an urgent byte was, which is no part of the stream: what is behind it is read nevertheless.
func TestReadsBehindUrgentByte(t *testing.T) {
	l := start(t)
	fd, far := pair(t, "tcp")
	var got []byte
	all := make(chan struct{})
	s := newSpy()
	s.data = func(p []byte) {
		if got = append(got, p...); len(got) == 6 {
			close(all)
		}
	}
	s.on(l, fd)
	do(t, l, func() {})
	release := block(t, l)
	_, err := far.Write([]byte("abc"))
	require.NoError(t, err)
	raw, err := far.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil) }))
	require.NoError(t, err)
	_, err = far.Write([]byte("def"))
	require.NoError(t, err)
	release()
	await(t, all, "all of it")
	assert.Equal(t, "abcdef", string(got))
}
