//go:build linux && !noloops

package loop_test

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

// What is done with a connection that was closed never happens to whoever has its descriptor's number now.
func TestClosedConnTouchesNobody(t *testing.T) {
	l := start(t)
	for range 20 {
		fd, _ := pair(t, "tcp")
		s := newSpy()
		s.flush = func() { t.Error("Flush after Close") }
		s.tick = func() { t.Error("Tick after Close") }
		s.on(l, fd)
		do(t, l, s.Close)
		again, far := reuse(t, fd)
		do(t, l, func() {
			assert.True(t, s.Closed())
			n, err := s.WriteNow([]byte("not for you"))
			assert.Zero(t, n)
			assert.ErrorIs(t, err, os.ErrClosed)
			assert.ErrorIs(t, s.CloseWrite(), os.ErrClosed)
			s.Close()
		})
		s.Wake()
		do(t, l, func() {})
		requireUntouched(t, again, far)
	}
}

// The number of a connection that was closed, on the loop again: only the new one hears of it.
func TestNumberOnTheLoopAgain(t *testing.T) {
	l := start(t)
	for range 20 {
		fd, _ := pair(t, "tcp")
		old := newSpy()
		old.data = func([]byte) { t.Error("data of another connection") }
		old.on(l, fd)
		do(t, l, old.Close)
		old.Wake()
		near, far := sockets(t, "tcp")
		again, err := loop.Detach(near)
		require.NoError(t, err)
		got := make(chan string, 1)
		s := newSpy()
		s.data = func(p []byte) { got <- string(p) }
		s.on(l, again)
		_, err = far.Write([]byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, "hello", await(t, got, "data"))
		far.Close()
		assert.Equal(t, io.EOF, await(t, s.ended, "end"))
		assert.Empty(t, old.ended)
	}
}

// A handler that closes another connection, which is told about in the same pass.
func TestCloseOfAnotherInItsPass(t *testing.T) {
	l := start(t)
	var one, two *spy
	closed := make(chan struct{}, 2)
	kill := func(other **spy) func([]byte) {
		return func([]byte) {
			if !(*other).Closed() {
				(*other).Close()
				closed <- struct{}{}
				return
			}
			t.Error("data of a connection that was closed")
		}
	}
	one, two = newSpy(), newSpy()
	one.data, two.data = kill(&two), kill(&one)
	fd1, far1 := pair(t, "tcp")
	fd2, far2 := pair(t, "tcp")
	do(t, l, func() { // nothing is looked at before both have something to say
		one.on(l, fd1)
		two.on(l, fd2)
		_, err := far1.Write([]byte("x"))
		assert.NoError(t, err)
		_, err = far2.Write([]byte("x"))
		assert.NoError(t, err)
	})
	await(t, closed, "Close")
	do(t, l, func() { assert.NotEqual(t, one.Closed(), two.Closed()) })
	assert.Empty(t, closed)
}

// Signals to a loop that has ended reach nobody who has the numbers of its descriptors now.
func TestEndedLoopTouchesNobody(t *testing.T) {
	for range 20 {
		l, err := loop.New()
		require.NoError(t, err)
		fd, _ := pair(t, "tcp")
		s := newSpy().on(l, fd)
		var waking sync.WaitGroup
		for range 4 {
			waking.Go(func() {
				for {
					select {
					case <-l.Done():
						return
					default:
						s.Wake()
						s.Do(func() {})
					}
				}
			})
		}
		do(t, l, s.Close)
		l.Stop()
		await(t, l.Done(), "end of the loop")
		waking.Wait()
		again, far := reuse(t, l.Signalled())
		other := newSpy()
		other.Init(l, -1, other)
		other.Wake()
		s.Wake()
		s.Do(func() { t.Error("call after the end") })
		l.Stop()
		assert.False(t, l.Do(func() { t.Error("call after the end") }))
		requireUntouched(t, again, far)
	}
}

// A connection that was closed before it was enrolled isn't closed again by a loop that has ended meanwhile.
func TestEnrollAfterCloseAndEnd(t *testing.T) {
	for range 20 {
		l, err := loop.New()
		require.NoError(t, err)
		fd, _ := pair(t, "tcp")
		s := newSpy()
		s.Init(l, fd, s)
		do(t, l, s.Close)
		l.Stop()
		await(t, l.Done(), "end of the loop")
		again, far := reuse(t, fd)
		s.Enroll()
		requireUntouched(t, again, far)
		assert.Empty(t, s.ended, "nothing comes after Close")
	}
}

func TestDetachKeepsNothing(t *testing.T) {
	pair(t, "tcp") // the runtime's own descriptors come with the first one
	for _, network := range networks {
		before := descriptors(t)
		var fds []int
		var fars []net.Conn
		for range 100 {
			fd, far := pair(t, network)
			fds, fars = append(fds, fd), append(fars, far)
		}
		assert.Equal(t, before+200, descriptors(t), "one for each end")
		l := start(t)
		for i, fd := range fds {
			if s := newSpy(); i%2 == 0 {
				s.Init(l, fd, s)
				s.Abandon()
			} else {
				s.on(l, fd)
				do(t, l, s.Close)
			}
		}
		for _, far := range fars {
			far.Close()
		}
		l.Stop()
		await(t, l.Done(), "end of the loop")
		assert.Equal(t, before, descriptors(t))
	}
}

func TestDetachRefuses(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	_, err := loop.Detach(near)
	assert.ErrorContains(t, err, "no plain socket")
	go near.Write([]byte("x"))
	_, err = far.Read(make([]byte, 1))
	assert.NoError(t, err, "it is as it was")

	conn, _ := sockets(t, "tcp")
	conn.Close()
	_, err = loop.Detach(conn)
	assert.ErrorIs(t, err, net.ErrClosed)
}

// No descriptor for the copy: the connection is as it was.
func TestDetachWithoutDescriptors(t *testing.T) {
	near, far := sockets(t, "tcp")
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 1 // below any number there is: open ones stay
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	_, err := loop.Detach(near)
	_, failed := loop.New()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old))
	assert.ErrorIs(t, err, syscall.EMFILE)
	assert.ErrorIs(t, failed, syscall.EMFILE)
	_, err = near.Write([]byte("x"))
	require.NoError(t, err)
	_, err = far.Read(make([]byte, 1))
	assert.NoError(t, err)
}
