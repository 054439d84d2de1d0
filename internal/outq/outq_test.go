package outq_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errGone = errors.New("gone")

// result is what a packet's callback got.
type result struct {
	name string
	err  error
}

// watchFunc is a Watcher.
type watchFunc func()

func (f watchFunc) LevelChanged() { f() }

// rig is a queue whose packets note their outcomes.
type rig struct {
	*outq.Queue
	results []result // of the goroutine that runs the queue, or of the test
}

func newRig(maxBytes, maxPackets int) *rig { return &rig{Queue: outq.New(maxBytes, maxPackets)} }

func (r *rig) put(name string) error {
	return r.Put(frame.NewPacket(frame.KindNone, []byte(name), func(err error) {
		r.results = append(r.results, result{name, err})
	}))
}

func finish(p *frame.Packet, err error) { p.Finish(err) }

func TestBounds(t *testing.T) {
	for _, test := range []struct {
		name                 string
		maxBytes, maxPackets int
		fits                 []string
		full                 string
	}{
		{"bytes", 10, 100, []string{"12345", "67890"}, "x"},
		{"packets", 100, 2, []string{"a", "b"}, "c"},
		{"empty packets count", 10, 2, []string{"", ""}, ""},
		{"one larger than the bound, alone", 3, 100, []string{"12345"}, "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newRig(test.maxBytes, test.maxPackets)
			bytes := 0
			for _, p := range test.fits {
				require.NoError(t, q.put(p))
				bytes += len(p)
			}
			assert.Equal(t, bytes, q.Bytes())
			assert.ErrorIs(t, q.put(test.full), outq.ErrFull)
			assert.Empty(t, q.results, "a refused packet is its owner's")
			q.Discard(errGone, finish)
			assert.Len(t, q.results, len(test.fits))
			assert.Zero(t, q.Bytes())
		})
	}
}

// What the writer has taken counts until it was written.
func TestBoundCountsWhatIsBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newRig(10, 100)
		release := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- q.Run(func(packets []*frame.Packet) (int, error) {
				<-release
				return len(packets), nil
			}, finish)
		}()
		require.NoError(t, q.put("12345678"))
		synctest.Wait()
		assert.Equal(t, 8, q.Bytes())
		assert.ErrorIs(t, q.put("123"), outq.ErrFull)
		close(release)
		synctest.Wait()
		assert.Zero(t, q.Bytes())
		assert.NoError(t, q.put("123"))
		q.Close(errGone)
		assert.NoError(t, <-ended)
		assert.Equal(t, []result{{"12345678", nil}, {"123", nil}}, q.results)
	})
}

// One write takes all that has gathered.
func TestGathers(t *testing.T) {
	q := newRig(1<<20, 1<<10)
	for i := range 100 {
		require.NoError(t, q.put(strconv.Itoa(i)))
	}
	q.Close(errGone)
	writes := 0
	require.NoError(t, q.Run(func(packets []*frame.Packet) (int, error) {
		writes++
		return len(packets), nil
	}, finish))
	assert.Equal(t, 1, writes)
	require.Len(t, q.results, 100)
	for i, r := range q.results {
		assert.Equal(t, result{strconv.Itoa(i), nil}, r)
	}
	assert.ErrorIs(t, q.put("late"), errGone)
}

func TestEnds(t *testing.T) {
	errWrite := errors.New("write")
	for _, test := range []struct {
		name    string
		end     func(q *rig)
		written int
		write   error
		run     error
		results []result
	}{
		{"close writes what is queued", func(q *rig) { q.Close(errGone) }, 3, nil, nil,
			[]result{{"a", nil}, {"b", nil}, {"c", nil}}},
		{"abort doesn't", func(q *rig) { q.Abort(errGone) }, 0, nil, errGone,
			[]result{{"a", errGone}, {"b", errGone}, {"c", errGone}}},
		{"the first reason stays", func(q *rig) { q.Close(errGone); q.Abort(errWrite) }, 0, nil, errGone,
			[]result{{"a", errGone}, {"b", errGone}, {"c", errGone}}},
		{"a write that fails half way", func(*rig) {}, 1, errWrite, errWrite,
			[]result{{"a", nil}, {"b", errWrite}, {"c", errWrite}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := newRig(100, 100)
			for _, name := range []string{"a", "b", "c"} {
				require.NoError(t, q.put(name))
			}
			test.end(q)
			err := q.Run(func([]*frame.Packet) (int, error) { return test.written, test.write }, finish)
			assert.Equal(t, test.run, err)
			assert.Equal(t, test.results, q.results)
			assert.Error(t, q.put("late"))
			assert.Zero(t, q.Bytes())
		})
	}
}

// Each of many writers' packets is finished exactly once, in its writer's order, whenever the queue ends.
func TestConcurrentPut(t *testing.T) {
	const putters, each = 8, 500
	q := outq.New(1<<10, 64)
	ended := make(chan error, 1)
	var written atomic.Int64
	go func() {
		ended <- q.Run(func(packets []*frame.Packet) (int, error) {
			if written.Add(int64(len(packets))) > putters*each/4 {
				return len(packets) / 2, errGone
			}
			return len(packets), nil
		}, finish)
	}()
	var finished [putters][each]atomic.Int32
	var accepted, settled atomic.Int64
	var putting sync.WaitGroup
	for who := range putters {
		last := -1
		putting.Go(func() {
			for i := range each {
				err := q.Put(frame.NewPacket(0, []byte("packet"), func(error) {
					finished[who][i].Add(1)
					settled.Add(1)
					if i <= last {
						t.Errorf("%d of writer %d finished after %d", i, who, last)
					}
					last = i
				}))
				if err == nil {
					accepted.Add(1)
				}
			}
		})
	}
	putting.Wait()
	q.Close(errGone)
	<-ended
	q.Discard(errGone, finish)
	assert.Equal(t, accepted.Load(), settled.Load())
	for who := range putters {
		for i := range each {
			assert.LessOrEqual(t, finished[who][i].Load(), int32(1))
		}
	}
	assert.Zero(t, q.Bytes())
}

func BenchmarkPutRun(b *testing.B) {
	q := outq.New(4<<20, 1<<16)
	ended := make(chan error, 1)
	go func() {
		ended <- q.Run(func(packets []*frame.Packet) (int, error) { return len(packets), nil }, finish)
	}()
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		for q.Put(frame.NewPacket(0, data, nil)) != nil {
		}
	}
	q.Close(errGone)
	<-ended
}

// Whoever puts writes: a client's packet on its way out.
func BenchmarkPutPump(b *testing.B) {
	q := outq.New(4<<20, 1<<16)
	data := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Put(frame.BorrowPacket(0, data)); err != nil {
			b.Fatal(err)
		}
		if more, err := q.Pump(func(packets []*frame.Packet) (int, error) { return len(packets), nil }, finish, true); more || err != nil {
			b.Fatal(more, err)
		}
	}
}

// Force minds no bound, but the queue's end.
func TestForce(t *testing.T) {
	q := newRig(4, 1)
	require.NoError(t, q.put("full"))
	p := frame.NewPacket(frame.KindNone, []byte("must not be dropped"), func(err error) { q.results = append(q.results, result{"forced", err}) })
	require.NoError(t, q.Force(p))
	assert.ErrorIs(t, q.put("x"), outq.ErrFull)
	q.Close(errGone)
	assert.ErrorIs(t, q.Force(frame.NewPacket(frame.KindNone, nil, nil)), errGone)
	require.NoError(t, q.Run(func(packets []*frame.Packet) (int, error) { return len(packets), nil }, finish))
	assert.Equal(t, []result{{"full", nil}, {"forced", nil}}, q.results)
}

// High tells above three quarters of the bound, until it is below one quarter, and who watches hears of each change.
func TestHigh(t *testing.T) {
	q := newRig(100, 100)
	changes := 0
	q.Watch(watchFunc(func() { changes++ }))
	for range 7 {
		require.NoError(t, q.put("0123456789"))
		assert.False(t, q.High())
	}
	require.NoError(t, q.put("0123456789"))
	assert.True(t, q.High())
	assert.Equal(t, 1, changes)
	q.Close(errGone)
	require.NoError(t, q.Run(func(packets []*frame.Packet) (int, error) { return len(packets), nil }, finish))
	assert.False(t, q.High())
	assert.Equal(t, 2, changes)
}
