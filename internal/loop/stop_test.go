//go:build linux && !noloops

package loop_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

func TestStopTwice(t *testing.T) {
	pair(t, "tcp")
	before := descriptors(t)
	l, err := loop.New()
	require.NoError(t, err)
	l.Stop()
	l.Stop()
	await(t, l.Done(), "end of the loop")
	l.Stop()
	assert.False(t, l.Do(func() { t.Error("call after the end") }))
	assert.Equal(t, before, descriptors(t))
}

// Connections have a second to end by themselves, however often the loop is stopped, and however busy they are.
func TestStopEndsConnections(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			l, err := loop.New()
			require.NoError(t, err)
			before := descriptors(t)
			quiet, busy, stubborn := newSpy(), newSpy(), newSpy()
			quiet.tick = l.Stop
			busy.flush = busy.Wake
			stubborn.end = func(error) {} // doesn't close
			for _, s := range []*spy{quiet, busy, stubborn} {
				fd, far := pair(t, network)
				defer far.Close()
				s.on(l, fd)
			}
			busy.Wake()
			l.Stop()
			await(t, l.Done(), "end of the loop")
			for _, s := range []*spy{quiet, busy, stubborn} {
				assert.Equal(t, loop.ErrStopped, await(t, s.ended, "end"))
				assert.Empty(t, s.ended)
				assert.True(t, s.Closed())
			}
			assert.Equal(t, before-2+3, descriptors(t), "the peers' are left")
		})
	}
}

// A loop ends as soon as nobody is on it any more.
func TestStopWaitsForConnections(t *testing.T) {
	l, err := loop.New()
	require.NoError(t, err)
	fd, far := pair(t, "tcp")
	s := newSpy().on(l, fd)
	do(t, l, func() {})
	l.Stop()
	far.Close()
	assert.Equal(t, io.EOF, await(t, s.ended, "end"), "and nothing that Stop made of it")
	await(t, l.Done(), "end of the loop")
}

func TestEnrollAfterStop(t *testing.T) {
	for _, network := range networks {
		l, err := loop.New()
		require.NoError(t, err)
		enroll := func() {
			fd, far := pair(t, network)
			s := newSpy()
			s.start = func() { t.Error("Start on a loop that was stopped") }
			s.end = func(error) {
				assert.True(t, s.Closed())
				s.Close()
			}
			s.on(l, fd)
			assert.Equal(t, loop.ErrStopped, await(t, s.ended, "end"))
			_, err := far.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err)
		}
		fd, far := pair(t, network)
		kept := newSpy().on(l, fd) // which the loop waits for
		do(t, l, func() {})
		l.Stop()
		enroll()
		far.Close()
		await(t, kept.ended, "end")
		await(t, l.Done(), "end of the loop")
		enroll()
	}
}

// What was asked for before Stop happens, and Do of a connection until the loop's end.
func TestStopDoesWhatWasAsked(t *testing.T) {
	for range 50 {
		l, err := loop.New()
		require.NoError(t, err)
		calls := make(chan int, 100)
		for i := range 100 {
			require.True(t, l.Do(func() { calls <- i }))
		}
		l.Stop()
		await(t, l.Done(), "end of the loop")
		require.Len(t, calls, 100)
		for i := range 100 {
			require.Equal(t, i, <-calls)
		}
	}
}

// A handler that doesn't return keeps the loop; when it does, nothing is left.
func TestStopWhileAHandlerRuns(t *testing.T) {
	pair(t, "tcp")
	before := descriptors(t)
	l, err := loop.New()
	require.NoError(t, err)
	fd, far := pair(t, "tcp")
	begun, release := make(chan struct{}), make(chan struct{})
	s := newSpy()
	s.data = func([]byte) { close(begun); <-release }
	s.on(l, fd)
	_, err = far.Write([]byte("x"))
	require.NoError(t, err)
	await(t, begun, "data")
	l.Stop()
	select {
	case <-l.Done():
		t.Error("the loop has ended before its handler")
	default:
	}
	close(release)
	far.Close()
	await(t, l.Done(), "end of the loop")
	assert.Equal(t, before, descriptors(t))
}
