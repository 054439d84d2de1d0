//go:build linux && !noloops

package loop_test

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// Each Wake is followed by a Flush that sees what was done before it.
func TestWakeIsFollowedByFlush(t *testing.T) {
	const wakers, each = 8, 500
	l := start(t)
	fd, far := pair(t, "tcp")
	var done [wakers]atomic.Int64
	var mu sync.Mutex
	var seen [wakers]int64 // by Flush; guarded by mu
	flushed := sync.NewCond(&mu)
	s := newSpy()
	started := false
	s.start = func() { started = true }
	s.flush = func() {
		assert.True(t, started, "Start comes first")
		mu.Lock()
		defer mu.Unlock()
		for i := range done {
			seen[i] = done[i].Load()
		}
		flushed.Broadcast()
	}
	s.Init(l, fd, s)
	var waking sync.WaitGroup
	for i := range wakers {
		waking.Go(func() {
			for n := range int64(each) {
				done[i].Store(n + 1)
				s.Wake()
				if n%7 != 0 {
					continue // many Wakes for one Flush
				}
				mu.Lock()
				for seen[i] <= n {
					flushed.Wait()
				}
				mu.Unlock()
			}
		})
	}
	s.Enroll() // with Wakes before, beside and after it
	ended := make(chan struct{})
	go func() { waking.Wait(); close(ended) }()
	await(t, ended, "Flush after Wake")
	far.Close()
	await(t, s.ended, "end")
}

// Each Do is done once, and those of one goroutine in order, while connections are busy.
func TestDoOnceAndInOrder(t *testing.T) {
	const callers, each = 8, 1000
	l := start(t)
	fd, far := pair(t, "unix")
	s := newSpy()
	s.data = func(p []byte) { _, _ = s.WriteNow(p); s.Wake() }
	s.on(l, fd)
	_, err := far.Write([]byte("round and round"))
	require.NoError(t, err)
	echoing := make(chan struct{})
	go func() { defer close(echoing); _, _ = io.Copy(far, far) }()

	var calls [callers][]int // owned by the loop's goroutine
	var calling sync.WaitGroup
	for i := range callers {
		calling.Go(func() {
			for n := range each {
				if !l.Do(func() { calls[i] = append(calls[i], n) }) {
					t.Error("Do on a loop that wasn't stopped")
				}
			}
		})
	}
	calling.Wait()
	do(t, l, func() {
		for i := range calls {
			if assert.Len(t, calls[i], each) {
				for n := range each {
					assert.Equal(t, n, calls[i][n])
				}
			}
		}
	})
	do(t, l, s.Close)
	await(t, echoing, "end of the peer")
}

// Do and Wake from the loop's own goroutine.
func TestDoFromTheLoop(t *testing.T) {
	l := start(t)
	fd, _ := pair(t, "tcp")
	s := newSpy()
	flushes, called := make(chan int, 4), make(chan struct{})
	n := 0
	s.flush = func() {
		if n++; n < 3 {
			s.Wake()
		} else {
			s.Do(func() { close(called) })
		}
		flushes <- n
	}
	s.start = s.Wake
	s.on(l, fd)
	for i := range 3 {
		assert.Equal(t, i+1, await(t, flushes, "Flush"))
	}
	await(t, called, "call")
	do(t, l, s.Close)
}

// A connection that has ended may be kept, in whatever state its peer is: the loop waits, and ticks.
func TestIdleLoopWaits(t *testing.T) {
	for name, bring := range map[string]func(s *spy, far tcpEnd){
		"open":        nil,
		"half-closed": func(_ *spy, far tcpEnd) { assert.NoError(t, far.CloseWrite()) },
		"closed by both, and kept": func(s *spy, far tcpEnd) {
			s.Do(func() { assert.NoError(t, s.CloseWrite()) })
			assert.NoError(t, far.Close())
		},
		"reset":                 func(_ *spy, far tcpEnd) { assert.NoError(t, far.SetLinger(0)); assert.NoError(t, far.Close()) },
		"we have said good-bye": func(s *spy, _ tcpEnd) { s.Do(func() { assert.NoError(t, s.CloseWrite()) }) },
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t)
			fd, far := pair(t, "tcp")
			s := newSpy()
			s.end = func(error) {} // doesn't close
			ticks := make(chan struct{}, 64)
			s.tick = func() { ticks <- struct{}{} }
			s.on(l, fd)
			if bring != nil {
				bring(s, far.(tcpEnd))
			}
			if name != "open" && name != "we have said good-bye" {
				await(t, s.ended, "end")
			}
			runtime.GC()
			await(t, ticks, "tick")
			begun, spent := time.Now(), gwtest.ProcessorTime(t)
			for range 4 {
				await(t, ticks, "tick")
			}
			assert.Less(t, gwtest.ProcessorTime(t)-spent, time.Since(begun)/4, "the loop spins")
			if name == "reset" {
				do(t, l, func() {
					_, err := s.WriteNow([]byte("x"))
					assert.Error(t, err)
				})
			}
			do(t, l, s.Close)
			assert.Empty(t, s.ended, "End comes once")
			assert.Empty(t, s.panics)
		})
	}
}

type tcpEnd = interface {
	io.Closer
	CloseWrite() error
	SetLinger(int) error
}

// clock is a spy that hands on the times of ticks.
type clock struct {
	*spy
	ticks chan time.Time
}

func (c clock) Tick(now time.Time) { c.ticks <- now }

func TestTickInterval(t *testing.T) {
	l := start(t)
	fd, _ := pair(t, "tcp")
	s := clock{newSpy(), make(chan time.Time, 64)}
	s.Init(l, fd, s)
	s.Enroll()
	last := await(t, s.ticks, "tick")
	for range 3 {
		next := await(t, s.ticks, "tick")
		assert.GreaterOrEqual(t, next.Sub(last), loop.TickInterval)
		last = next
	}
	do(t, l, s.Close)
}
