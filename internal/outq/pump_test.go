package outq_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Who puts writes, where nobody waits for what becomes of it.
func TestPumpWritesAtOnce(t *testing.T) {
	q, s := newRig(100, 100), &sink{}
	for _, inline := range []bool{true, false} {
		more, err := q.Pump(refuse(t), finish, inline)
		assert.NoError(t, err)
		assert.False(t, more, "nothing is queued")
		require.NoError(t, q.silent("a"))
		require.NoError(t, q.silent("b"))
		more, err = q.Pump(s.write, finish, inline)
		assert.NoError(t, err)
		assert.False(t, more)
	}
	assert.Equal(t, []string{"a", "b", "a", "b"}, s.written)
	assert.Zero(t, q.Bytes())
}

// The caller may hold a lock that a callback takes: one packet with a callback leaves all to a goroutine.
func TestPumpLeavesCallbacksToAGoroutine(t *testing.T) {
	q, s := newRig(100, 100), &sink{}
	require.NoError(t, q.silent("a"))
	require.NoError(t, q.put("b"))
	more, err := q.Pump(refuse(t), finish, true)
	assert.NoError(t, err)
	assert.True(t, more)
	require.NoError(t, q.silent("c"))
	for _, inline := range []bool{true, false} {
		more, _ = q.Pump(refuse(t), finish, inline)
		assert.False(t, more, "the goroutine was asked for already")
	}
	require.NoError(t, q.RunOut(s.write, finish))
	assert.Equal(t, []string{"a", "b", "c"}, s.written)
	assert.Equal(t, []result{{"b", nil}}, q.results)
	require.NoError(t, q.silent("d"))
	more, _ = q.Pump(refuse(t), finish, true)
	assert.False(t, more, "it has not resigned")
	resigned, drained := q.Resign()
	assert.False(t, resigned, "there is something to write")
	assert.False(t, drained)
	require.NoError(t, q.RunOut(s.write, finish))
	resigned, drained = q.Resign()
	assert.True(t, resigned)
	assert.False(t, drained)

	require.NoError(t, q.put("e"))
	more, err = q.Pump(s.write, finish, false) // who holds nothing may call back
	assert.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, []string{"b", "e"}, names(q.results))
	assert.Equal(t, []string{"a", "b", "c", "d", "e"}, s.written)
}

// What the kernel doesn't take is a goroutine's, in order, and what comes meanwhile is behind it and counts.
func TestPumpPartial(t *testing.T) {
	for taken := range 3 {
		q, s := newRig(5, 4), &sink{takes: []int{taken}}
		for _, name := range []string{"a", "b", "c"} {
			require.NoError(t, q.put(name))
		}
		more, err := q.Pump(s.write, finish, false)
		require.NoError(t, err)
		require.True(t, more)
		assert.Equal(t, []string{"a", "b", "c"}[:taken], append([]string{}, s.written...))
		assert.Equal(t, names(q.results), s.written, "what was written is finished")
		assert.Equal(t, 3-taken, q.Bytes(), "what was not still counts")

		for i := 0; i < 1+taken; i++ { // packets are at their bound
			require.NoError(t, q.put(string(rune('d'+i))))
		}
		assert.ErrorIs(t, q.put("x"), errFull)
		more, err = q.Pump(refuse(t), finish, false)
		assert.False(t, more)
		assert.NoError(t, err)
		require.NoError(t, q.RunOut(s.write, finish))
		want := []string{"a", "b", "c", "d", "e", "f"}[:4+taken]
		assert.Equal(t, want, s.written)
		assert.Equal(t, want, names(q.results))
		assert.Zero(t, q.Bytes())
		resigned, _ := q.Resign()
		assert.True(t, resigned)
		more, err = q.Pump(refuse(t), finish, true)
		assert.False(t, more)
		assert.NoError(t, err)
	}
}

// A queue that is blocked is bounded in bytes as any other, but for what is forced.
func TestBoundsWhileBlocked(t *testing.T) {
	q, s := newRig(10, 100), &sink{takes: []int{0}}
	require.NoError(t, q.put("12345678"))
	more, err := q.Pump(s.write, finish, false)
	require.NoError(t, err)
	require.True(t, more)
	assert.ErrorIs(t, q.put("123"), errFull)
	assert.NoError(t, q.put("12"))
	assert.ErrorIs(t, q.put("1"), errFull)
	require.NoError(t, q.Force(frame.BorrowPacket(0, []byte("forced"))))
	assert.Equal(t, 16, q.Bytes())
	assert.True(t, q.High())
	require.NoError(t, q.RunOut(s.write, finish))
	assert.Equal(t, []string{"12345678", "12", "forced"}, s.written)
	assert.False(t, q.High())
}

// After an error nothing is written any more, and everything gets it, what comes meanwhile too.
func TestPumpFails(t *testing.T) {
	errWrite := errors.New("write")
	q, s := newRig(100, 100), &sink{takes: []int{1}, err: errWrite}
	require.NoError(t, q.put("a"))
	require.NoError(t, q.put("b"))
	more, err := q.Pump(func(packets []*frame.Packet) (int, error) {
		require.NoError(t, q.put("meanwhile"))
		return s.write(packets)
	}, finish, false)
	assert.Equal(t, errWrite, err)
	assert.True(t, more, "somebody has to finish what has come meanwhile")
	assert.Equal(t, []result{{"a", nil}, {"b", errWrite}}, q.results)
	assert.Equal(t, errWrite, q.put("late"))
	more, err = q.Pump(refuse(t), finish, false)
	assert.False(t, more)
	assert.NoError(t, err)
	assert.Equal(t, errWrite, q.RunOut(refuse(t), finish))
	assert.Equal(t, []result{{"a", nil}, {"b", errWrite}, {"meanwhile", errWrite}}, q.results)
	resigned, drained := q.Resign()
	assert.False(t, resigned)
	assert.False(t, drained)
}

// A queue that ends is its writer's.
func TestPumpLeavesTheEndToTheWriter(t *testing.T) {
	for _, end := range []func(q *rig){func(q *rig) { q.Close(errGone) }, func(q *rig) { q.Abort(errGone) }} {
		q := newRig(100, 100)
		require.NoError(t, q.put("a"))
		end(q)
		more, err := q.Pump(refuse(t), finish, false)
		assert.False(t, more)
		assert.NoError(t, err)
		_ = q.RunOut((&sink{}).write, finish)
		assert.Len(t, q.results, 1)
	}
}

// A callback may write: its packet goes out in the same Pump, behind what was there.
func TestPumpFromACallback(t *testing.T) {
	q, s := newRig(100, 100), &sink{}
	require.NoError(t, q.Put(frame.NewPacket(0, []byte("a"), func(error) {
		require.NoError(t, q.silent("c"))
		more, err := q.Pump(refuse(t), finish, true)
		assert.False(t, more)
		assert.NoError(t, err)
	})))
	require.NoError(t, q.silent("b"))
	more, err := q.Pump(s.write, finish, false)
	assert.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, []string{"a", "b", "c"}, s.written)
}

// Whoever writes next calls back later: the goroutine waits until the callbacks of whoever pumps have returned, and the other way round.
func TestCallbacksKeepTheOrderOfWriters(t *testing.T) {
	first := map[string]func(q *rig, s *sink, finish func(*frame.Packet, error)){
		"a pump first": func(q *rig, s *sink, f func(*frame.Packet, error)) { _, _ = q.Pump(s.write, f, false) },
		"RunOut first": func(q *rig, s *sink, f func(*frame.Packet, error)) { _ = q.RunOut(s.write, f) },
		"Drive first":  func(q *rig, s *sink, f func(*frame.Packet, error)) { _, _ = q.Drive(s.write, f) },
		"a partial first": func(q *rig, s *sink, f func(*frame.Packet, error)) {
			s.takes = []int{1}
			_, _ = q.Pump(s.write, f, false)
		},
	}
	for name, begin := range first {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, s := newRig(100, 100), &sink{}
				require.NoError(t, q.put("a"))
				if name == "a partial first" {
					require.NoError(t, q.put("b"))
				}
				release, done := make(chan struct{}), make(chan struct{}, 2)
				go func() {
					begin(q, s, func(p *frame.Packet, err error) { <-release; p.Finish(err) })
					done <- struct{}{}
				}()
				synctest.Wait() // in the callback of a
				if name != "a partial first" {
					require.NoError(t, q.put("b"))
				}
				more, err := q.Pump(refuse(t), finish, false)
				assert.False(t, more)
				assert.NoError(t, err)
				go func() {
					assert.NoError(t, q.RunOut(s.write, finish))
					done <- struct{}{}
				}()
				synctest.Wait()
				assert.Empty(t, q.results)
				assert.Equal(t, []string{"a"}, s.written, "nor is b written meanwhile")
				close(release)
				<-done
				<-done
				assert.Equal(t, []string{"a", "b"}, s.written)
				assert.Equal(t, []string{"a", "b"}, names(q.results))
			})
		})
	}
}

// What a Hold holds may be written through it: it goes on as it was.
func TestPumpHeld(t *testing.T) {
	for _, loose := range []bool{false, true} {
		q, s := newRig(100, 100), &sink{}
		q.Hold()
		if loose {
			q.Loosen()
		}
		require.NoError(t, q.silent("a"))
		more, err := q.PumpHeld(s.write, finish)
		assert.NoError(t, err)
		assert.False(t, more)
		assert.Equal(t, []string{"a"}, s.written)
		require.NoError(t, q.silent("b"))
		require.NoError(t, q.RunOut(s.write, finish))
		assert.Equal(t, loose, len(s.written) == 2, "held as before")
		assert.Equal(t, !loose, q.Release())
	}
}

// What a write through a Hold leaves needn't wait for its end.
func TestPumpHeldLeavesARest(t *testing.T) {
	q, s := newRig(100, 100), &sink{takes: []int{1}}
	q.Hold()
	require.NoError(t, q.silent("a"))
	require.NoError(t, q.silent("b"))
	more, err := q.PumpHeld(s.write, finish)
	assert.NoError(t, err)
	assert.True(t, more)
	require.NoError(t, q.RunOut(s.write, finish))
	assert.Equal(t, []string{"a", "b"}, s.written)
	assert.False(t, q.Release(), "nothing is left")
}
