package outq_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// While a queue is held nobody writes, and the last Release tells that somebody has to.
func TestHold(t *testing.T) {
	q, s := newRig(100, 100), &sink{}
	q.Hold()
	assert.False(t, q.Release(), "nothing came")
	q.Hold()
	q.Hold()
	require.NoError(t, q.silent("a"))
	more, err := q.Pump(refuse(t), finish, true)
	assert.False(t, more)
	assert.NoError(t, err)
	assert.NoError(t, q.RunOut(refuse(t), finish))
	drained, err := q.Drive(refuse(t), finish)
	assert.False(t, drained)
	assert.NoError(t, err)
	resigned, _ := q.Resign()
	assert.True(t, resigned, "who releases sees to it")
	assert.False(t, q.Release(), "it is held once more")
	require.NoError(t, q.silent("b"))
	assert.True(t, q.Release())
	more, err = q.Pump(s.write, finish, true)
	assert.False(t, more)
	assert.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, s.written)
}

// A queue that is held is bounded as any other.
func TestHoldBounds(t *testing.T) {
	q := newRig(3, 100)
	q.Hold()
	require.NoError(t, q.silent("abc"))
	assert.ErrorIs(t, q.silent("d"), errFull)
	q.Discard(errGone, finish)
}

// What is held is written after Loosen, and when a packet comes that somebody waits for: it may be the one that holds. So is all that
// comes before the last Release; then the next Hold holds again.
func TestHoldEndsBeforeRelease(t *testing.T) {
	for name, loosen := range map[string]func(q *rig){
		"Loosen":                 func(q *rig) { q.Loosen() },
		"packet with a callback": func(q *rig) { assert.NoError(t, q.put("awaited")) },
	} {
		t.Run(name, func(t *testing.T) {
			q, s := newRig(100, 100), &sink{}
			q.Hold()
			q.Hold()
			require.NoError(t, q.silent("a"))
			require.NoError(t, q.RunOut(refuse(t), finish))
			loosen(q)
			require.NoError(t, q.RunOut(s.write, finish))
			assert.Equal(t, "a", s.written[0])
			for range 2 {
				require.NoError(t, q.silent("b"))
				require.NoError(t, q.RunOut(s.write, finish))
				assert.Equal(t, "b", s.written[len(s.written)-1])
				q.Release()
			}
			q.Hold()
			require.NoError(t, q.silent("c"))
			assert.NoError(t, q.RunOut(refuse(t), finish))
			q.Loosen()
			assert.NoError(t, q.RunOut(s.write, finish))
			q.Release()
			q.Loosen() // nothing is held
			q.Hold()
			require.NoError(t, q.silent("d"))
			assert.NoError(t, q.RunOut(refuse(t), finish))
			assert.True(t, q.Release())
			q.Discard(errGone, finish)
		})
	}
}

// The end of a queue doesn't wait for Release.
func TestHoldEndsWithTheQueue(t *testing.T) {
	t.Run("close", func(t *testing.T) {
		q, s := newRig(100, 100), &sink{}
		q.Hold()
		require.NoError(t, q.put("a"))
		q.Close(errGone)
		assert.NoError(t, q.RunOut(s.write, finish))
		assert.Equal(t, []result{{"a", nil}}, q.results)
		assert.False(t, q.Release())
		_, drained := q.Resign()
		assert.True(t, drained)
	})
	t.Run("abort", func(t *testing.T) {
		q := newRig(100, 100)
		q.Hold()
		require.NoError(t, q.put("a"))
		q.Abort(errGone)
		assert.Equal(t, errGone, q.RunOut(refuse(t), finish))
		assert.Equal(t, []result{{"a", errGone}}, q.results)
		assert.False(t, q.Release())
	})
}

// A goroutine that runs the queue for good waits for Release, and is woken by it, or by the end.
func TestHoldWithRun(t *testing.T) {
	for name, wake := range map[string]func(q *rig){
		"release": func(q *rig) { assert.True(t, q.Release()) },
		"close":   func(q *rig) { q.Close(errGone) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, s := newRig(100, 100), &sink{}
				ended := make(chan error, 1)
				go func() { ended <- q.Run(s.write, finish) }()
				q.Hold()
				require.NoError(t, q.silent("a"))
				require.NoError(t, q.silent("b"))
				synctest.Wait()
				assert.Empty(t, s.written)
				wake(q)
				synctest.Wait()
				assert.Equal(t, []string{"a", "b"}, s.written)
				q.Close(errGone)
				assert.NoError(t, <-ended)
			})
		})
	}
}

// Where a queue is run for good, who ends a hold may write by itself, which wakes nobody. What the kernel doesn't take then, and what
// somebody waits for, is left to the goroutine; after that the queue may be pumped again.
func TestUnholdWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, own, other := newRig(100, 100), &sink{}, &sink{}
		ended := make(chan error, 1)
		go func() { ended <- q.Run(other.write, finish) }()
		synctest.Wait()
		pump := func(want ...string) {
			t.Helper()
			require.True(t, q.Unhold())
			synctest.Wait()
			assert.Empty(t, other.written, "nobody was woken")
			_, err := q.Pump(own.write, finish, true)
			assert.NoError(t, err)
			synctest.Wait()
			assert.Equal(t, want, own.written)
		}
		q.Hold()
		require.NoError(t, q.silent("a"))
		require.NoError(t, q.silent("b"))
		pump("a", "b")
		assert.Empty(t, other.written)

		q.Hold()
		require.NoError(t, q.silent("c"))
		require.NoError(t, q.silent("d"))
		own.takes = []int{1}
		pump("a", "b", "c")
		assert.Equal(t, []string{"d"}, other.written, "the kernel took no more")
		other.written = nil

		q.Hold()
		require.NoError(t, q.silent("e"))
		pump("a", "b", "c", "e")

		q.Hold()
		require.NoError(t, q.silent("f"))
		synctest.Wait()
		assert.Empty(t, other.written)
		require.NoError(t, q.put("g"))
		synctest.Wait()
		assert.Equal(t, []string{"f", "g"}, other.written, "somebody waits, who may be the one that holds")
		assert.False(t, q.Unhold())
		q.Close(errGone)
		assert.NoError(t, <-ended)
	})
}

// What the kernel didn't take of a Pump, and a hold then kept from the goroutine that runs the queue, that goroutine writes when the hold
// ends: nobody else may.
func TestUnholdWakesRunToWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, other := newRig(100, 100), &sink{}
		ended := make(chan error, 1)
		go func() { ended <- q.Run(other.write, finish) }()
		q.Hold()
		require.NoError(t, q.silent("a"))
		require.NoError(t, q.silent("b"))
		require.True(t, q.Unhold())
		more, err := q.Pump(func([]*frame.Packet) (int, error) { q.Hold(); return 1, nil }, finish, true)
		assert.True(t, more)
		assert.NoError(t, err)
		synctest.Wait()
		assert.Empty(t, other.written, "held")
		assert.True(t, q.Unhold())
		more, err = q.Pump(refuse(t), finish, true)
		assert.False(t, more)
		assert.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, []string{"b"}, other.written)
		q.Close(errGone)
		assert.NoError(t, <-ended)
	})
}

// Packets that somebody waits for, and that a hold kept from the goroutine that runs the queue, are left to it by a Pump that must
// not call back, and wake it.
func TestPumpWakesRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newRig(100, 100), &sink{}
		begun, goOn := make(chan struct{}, 2), make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() {
			ended <- q.Run(func(packets []*frame.Packet) (int, error) {
				begun <- struct{}{}
				<-goOn
				return s.write(packets)
			}, finish)
		}()
		require.NoError(t, q.silent("a"))
		<-begun
		require.NoError(t, q.put("b"))
		q.Hold()
		goOn <- struct{}{}
		synctest.Wait()
		assert.Equal(t, []string{"a"}, s.written)
		assert.True(t, q.Unhold())
		more, err := q.Pump(refuse(t), finish, true)
		assert.True(t, more)
		assert.NoError(t, err)
		goOn <- struct{}{}
		synctest.Wait()
		assert.Equal(t, []string{"a", "b"}, s.written)
		q.Close(errGone)
		assert.NoError(t, <-ended)
	})
}

// An owner that nobody waits for gathers as what has no callback does.
func TestHoldKeepsOwners(t *testing.T) {
	for _, awaited := range []bool{false, true} {
		q, s := newRig(100, 100), &sink{}
		q.Hold()
		o := &owner{awaited: awaited}
		o.packet.Own(0, []byte("a"), o)
		require.NoError(t, q.Put(&o.packet))
		require.NoError(t, q.RunOut(s.write, finish))
		assert.Equal(t, awaited, len(s.written) == 1)
		assert.Equal(t, !awaited, q.Unhold())
		_, err := q.Pump(s.write, finish, true)
		assert.NoError(t, err)
		assert.Equal(t, []string{"a"}, s.written)
		assert.Equal(t, 1, o.finished)
	}
}

type owner struct {
	packet   frame.Packet
	awaited  bool
	finished int
}

func (o *owner) Finished(error) { o.finished++ }
func (o *owner) Awaited() bool  { return o.awaited }
func (o *owner) Released()      {}

// An event loop writes as far as the kernel takes it, and goes on with the rest when it comes back.
func TestDrive(t *testing.T) {
	for taken := range 3 {
		q, s := newRig(100, 100), &sink{takes: []int{taken}}
		drained, err := q.Drive(refuse(t), finish)
		assert.False(t, drained, "it is not closed")
		assert.NoError(t, err)
		for _, name := range []string{"a", "b", "c"} {
			require.NoError(t, q.put(name))
		}
		drained, err = q.Drive(s.write, finish)
		assert.False(t, drained)
		assert.NoError(t, err)
		assert.Len(t, s.written, taken)
		assert.Equal(t, s.written, names(q.results))
		require.NoError(t, q.put("d"))
		q.Close(errGone)
		s.takes = []int{1}
		drained, err = q.Drive(s.write, finish)
		assert.False(t, drained, "something is left")
		assert.NoError(t, err)
		drained, err = q.Drive(s.write, finish)
		assert.True(t, drained)
		assert.NoError(t, err)
		assert.Equal(t, []string{"a", "b", "c", "d"}, s.written)
		assert.Equal(t, []string{"a", "b", "c", "d"}, names(q.results))
		assert.Zero(t, q.Bytes())
	}
}

func TestDriveEnds(t *testing.T) {
	errWrite := errors.New("write")
	t.Run("aborted", func(t *testing.T) {
		q, s := newRig(100, 100), &sink{takes: []int{1}}
		require.NoError(t, q.put("a"))
		require.NoError(t, q.put("b"))
		_, err := q.Drive(s.write, finish)
		require.NoError(t, err)
		q.Abort(errGone)
		for range 2 {
			drained, err := q.Drive(refuse(t), finish)
			assert.False(t, drained)
			assert.Equal(t, errGone, err)
		}
		assert.Equal(t, []result{{"a", nil}, {"b", errGone}}, q.results)
	})
	t.Run("a write that fails", func(t *testing.T) {
		q, s := newRig(100, 100), &sink{takes: []int{1}, err: errWrite}
		require.NoError(t, q.put("a"))
		require.NoError(t, q.put("b"))
		drained, err := q.Drive(s.write, finish)
		assert.False(t, drained)
		assert.Equal(t, errWrite, err)
		assert.Equal(t, []result{{"a", nil}, {"b", errWrite}}, q.results)
		assert.Equal(t, errWrite, q.put("late"))
	})
	t.Run("a callback that writes", func(t *testing.T) {
		q, s := newRig(100, 100), &sink{}
		require.NoError(t, q.Put(frame.NewPacket(0, []byte("a"), func(error) { require.NoError(t, q.put("b")) })))
		_, err := q.Drive(s.write, finish)
		assert.NoError(t, err)
		assert.Equal(t, []string{"a", "b"}, s.written)
	})
	t.Run("aborted by a callback", func(t *testing.T) {
		q, s := newRig(100, 100), &sink{}
		require.NoError(t, q.Put(frame.NewPacket(0, []byte("a"), func(error) {
			require.NoError(t, q.put("b"))
			q.Abort(errGone)
		})))
		drained, err := q.Drive(s.write, finish)
		assert.False(t, drained)
		assert.Equal(t, errGone, err)
		assert.Equal(t, []result{{"b", errGone}}, q.results)
	})
}

// A write that fails while the queue is closing is the error, though Put refuses with why it was closed.
func TestWriteFailsWhileClosing(t *testing.T) {
	errWrite := errors.New("write")
	for name, run := range map[string]func(q *rig, s *sink) error{
		"Drive":  func(q *rig, s *sink) error { _, err := q.Drive(s.write, finish); return err },
		"RunOut": func(q *rig, s *sink) error { return q.RunOut(s.write, finish) },
		"Run":    func(q *rig, s *sink) error { return q.Run(s.write, finish) },
	} {
		t.Run(name, func(t *testing.T) {
			q, s := newRig(100, 100), &sink{takes: []int{1}, err: errWrite}
			require.NoError(t, q.put("a"))
			require.NoError(t, q.put("b"))
			q.Close(errGone)
			assert.Equal(t, errWrite, run(q, s))
			assert.Equal(t, []result{{"a", nil}, {"b", errWrite}}, q.results)
			assert.Equal(t, errGone, q.put("late"))
			assert.Equal(t, errGone, run(q, s), "afterwards")
		})
	}
}
