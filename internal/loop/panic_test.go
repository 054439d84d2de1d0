//go:build linux && !noloops

package loop_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// A panic in any of a handler's methods costs its connection, and nobody else's.
func TestPanicCostsOneConnection(t *testing.T) {
	oops := func() { panic("oops") }
	for name, arm := range map[string]func(s *spy){
		"Start": func(s *spy) { s.start = oops },
		"Data":  func(s *spy) { s.data = func([]byte) { panic("oops") } },
		"Flush": func(s *spy) { s.flush = oops; s.data = func([]byte) { s.Wake() } },
		"Tick":  func(s *spy) { s.tick = oops },
		"End":   func(s *spy) { s.data = func([]byte) {}; s.end = func(error) { panic("oops") } },
		"Do":    func(s *spy) { s.data = func([]byte) { s.Do(oops) } },
		"Flush when the kernel takes more": func(s *spy) {
			again := false
			s.start = s.Wake
			s.flush = func() {
				if again {
					panic("oops")
				}
				for again = true; !s.Blocked(); {
					_, _ = s.WriteNow(make([]byte, 64<<10))
				}
			}
		},
		"after Close": func(s *spy) { s.data = func([]byte) { s.Close(); panic("oops") } },
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t)
			fd, otherFar := pair(t, "tcp")
			other := newSpy()
			other.data = func(p []byte) { _, _ = other.WriteNow(p) }
			other.on(l, fd)
			fd, far := pair(t, "tcp")
			s := newSpy()
			arm(s)
			s.on(l, fd)
			if _, err := far.Write([]byte("x")); name != "Start" {
				require.NoError(t, err)
			}
			if name == "End" {
				require.NoError(t, far.(tcpEnd).CloseWrite())
			}
			_, _ = io.Copy(io.Discard, far) // until it is closed
			assert.Equal(t, "oops", await(t, s.panics, "Panicked"))
			ask(t, otherFar)
			otherFar.Close()
			await(t, other.ended, "end")
		})
	}
}

// The same where the loop ends connections, and refuses them.
func TestPanicAtTheLoopsEnd(t *testing.T) {
	l, err := loop.New()
	require.NoError(t, err)
	enroll := func() *spy {
		fd, _ := pair(t, "tcp")
		s := newSpy()
		s.end = func(error) { panic("oops") }
		return s.on(l, fd)
	}
	one, two := enroll(), enroll()
	do(t, l, func() {})
	l.Stop()
	late := enroll()
	await(t, l.Done(), "end of the loop")
	for _, s := range []*spy{one, two, late, enroll()} {
		assert.Equal(t, loop.ErrStopped, await(t, s.ended, "end"))
		assert.Equal(t, "oops", await(t, s.panics, "Panicked"))
		assert.True(t, s.Closed())
	}
}
