package outq_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

const racers, racesEach = 8, 1000

// mark is a packet and what became of it.
type mark struct {
	packet             frame.Packet
	race               *race
	who, i             int
	finished, released atomic.Int32
}

func (m *mark) Finished(err error) { m.finished.Add(1); m.race.note(m.who, m.i, err) }
func (m *mark) Awaited() bool      { return m.i%3 == 1 }
func (m *mark) Released()          { m.released.Add(1) }

// race is a queue to which many put and which they write, as connections do: whoever puts pumps, and a goroutine writes what the
// kernel doesn't take, until it may resign.
type race struct {
	*outq.Queue
	t       *testing.T
	random  *rand.Rand // owned by whoever writes, as are the next two
	calls   int
	written [racers]int // packets of each, so far
	failAt  int         // call that fails, 0: none

	room    chan struct{} // has something when there may be room
	half    func()        // closes the next
	halfway chan struct{} // closed when one of them has put half of its packets
	over    chan struct{} // closed when the queue ends before all is put

	last  [racers]int // packet that was finished last; owned by whoever finishes
	marks [racers][racesEach]*mark

	mu       sync.Mutex // guards the next
	running  bool
	writers  sync.WaitGroup
	resigned atomic.Int64
}

func newRace(t *testing.T, failAt int) *race {
	r := &race{Queue: outq.New(4<<10, 24), t: t, room: make(chan struct{}, racers), halfway: make(chan struct{}), over: make(chan struct{}), random: rand.New(rand.NewPCG(1, 2)), failAt: failAt}
	r.half = sync.OnceFunc(func() { close(r.halfway) })
	for who := range r.last {
		r.last[who] = -1
	}
	return r
}

// note is called by packets that are finished: nobody else is, meanwhile.
func (r *race) note(who, i int, err error) {
	if i <= r.last[who] {
		r.t.Errorf("%d of %d finished after %d", i, who, r.last[who])
	}
	r.last[who] = i
	if err == nil && i >= r.written[who] && r.failAt == 0 {
		r.t.Errorf("%d of %d finished, and not written", i, who)
	}
}

func (r *race) take(packets []*frame.Packet, n int) (int, error) {
	if r.calls++; r.calls == r.failAt {
		close(r.over)
		return n / 2, errGone
	}
	for _, p := range packets[:n] {
		who, i := int(p.Bytes()[0]), int(p.Bytes()[1])<<8|int(p.Bytes()[2])
		if i < r.written[who] {
			r.t.Errorf("%d of %d written after %d", i, who, r.written[who]-1)
		}
		r.written[who] = i + 1
	}
	return n, nil
}

func (r *race) finish(p *frame.Packet, err error) {
	p.Finish(err)
	select {
	case r.room <- struct{}{}:
	default: // nobody can be waiting
	}
}

// waitForRoom waits until a packet was finished.
func (r *race) waitForRoom() {
	select {
	case <-r.room:
	case <-r.over:
		runtime.Gosched()
	}
}

// writeNow takes all, or a part, or nothing.
func (r *race) writeNow(packets []*frame.Packet) (int, error) {
	if r.random.IntN(4) == 0 {
		return r.take(packets, r.random.IntN(len(packets)))
	}
	return r.take(packets, len(packets))
}

func (r *race) write(packets []*frame.Packet) (int, error) { return r.take(packets, len(packets)) }

func (r *race) pump(inline bool) {
	if more, _ := r.Pump(r.writeNow, r.finish, inline); more {
		r.startWriter()
	}
}

func (r *race) startWriter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		r.running = true
		r.writers.Go(r.runOut)
	}
}

func (r *race) runOut() {
	for {
		if r.RunOut(r.write, r.finish) != nil {
			return
		}
		r.mu.Lock()
		resigned, drained := r.Resign()
		if resigned {
			r.running = false
			r.resigned.Add(1)
		}
		r.mu.Unlock()
		if resigned || drained {
			return
		}
	}
}

// put puts the packet i of who, one way or another.
func (r *race) put(who, i int) error {
	data := []byte{byte(who), byte(i >> 8), byte(i), 0}
	if i%3 == 0 {
		return r.Put(frame.BorrowPacket(0, data))
	}
	m := &mark{race: r, who: who, i: i}
	m.packet.Own(0, data, m)
	err := r.Put(&m.packet)
	if err == nil {
		r.marks[who][i] = m // nobody looks before the end
	}
	return err
}

// produce puts all packets of who, and writes: some at once, some several together.
func (r *race) produce(who int) {
	defer r.half() // where the queue ends before
	for i := 0; i < racesEach; {
		if i >= racesEach/2 {
			r.half()
		}
		held := i%11 == 0
		if held {
			r.Hold()
		}
		full := false
		for range 1 + i%5*i%2 {
			if i < racesEach && !full {
				switch r.put(who, i) {
				case nil:
					i++
				case outq.ErrFull:
					full = true
				default:
					i = racesEach // it has ended
				}
			}
		}
		if held {
			if i%2 == 0 && r.Release() || i%2 == 1 && r.Unhold() {
				r.pump(false)
			}
		} else {
			r.pump(i%2 == 0)
		}
		if full {
			r.waitForRoom()
		}
	}
}

// finishedOnce fails where a packet that was taken was not finished and given back, once each.
func (r *race) finishedOnce() {
	wrong := 0
	for who := range r.marks {
		for _, m := range r.marks[who] {
			if m != nil && (m.finished.Load() != 1 || m.released.Load() != 1) {
				wrong++
			}
		}
	}
	assert.Zero(r.t, wrong, "packets not finished once, and given back after that")
	assert.Zero(r.t, r.Bytes())
}

// run returns when all is put and written, or ended. end is what else happens halfway.
func (r *race) run(end func()) {
	var producing sync.WaitGroup
	producing.Go(func() {
		<-r.halfway
		end()
	})
	for who := range racers {
		producing.Go(func() { r.produce(who) })
	}
	producing.Wait()
	r.writers.Wait()
}

// Many write while the writer comes and goes: nothing is left behind, and each one's packets go out in their order.
func TestWritersComeAndGo(t *testing.T) {
	r := newRace(t, 0)
	r.run(func() {})
	for who := range racers {
		assert.Equal(t, racesEach, r.written[who], "all of them are written, though nobody comes any more")
	}
	r.finishedOnce()
	assert.NotZero(t, r.resigned.Load())
	t.Logf("%d writes, %d writers", r.calls, r.resigned.Load())
}

// A write fails in the midst of that: each packet knows once, and whoever comes after it is refused.
func TestWritersComeAndGoUntilOneFails(t *testing.T) {
	for _, failAt := range []int{1, 2, 10, 100} {
		r := newRace(t, failAt)
		r.run(func() {})
		_ = r.RunOut(nil, r.finish) // as a connection does at its end
		r.finishedOnce()
		assert.Equal(t, errGone, r.put(0, 0))
	}
}

// The queue is aborted, or closed, while all of that goes on.
func TestWritersComeAndGoUntilTheEnd(t *testing.T) {
	for name, end := range map[string]func(r *race){
		"abort": func(r *race) { r.Abort(errGone); _ = r.RunOut(nil, r.finish) },
		"close": func(r *race) { r.Close(errGone); r.startWriter() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRace(t, 0)
			r.run(func() {
				close(r.over)
				end(r)
			})
			_ = r.RunOut(nil, r.finish)
			r.finishedOnce()
		})
	}
}
