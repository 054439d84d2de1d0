package frame_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// A list does what a slice does.
func TestList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		var l frame.List
		var want []*frame.Packet
		for range 200 {
			switch random.IntN(3) {
			case 0:
				p := frame.NewPacket(0, nil, nil)
				l.Push(p)
				want = append(want, p)
			case 1:
				some := packets(make([]string, random.IntN(4))...)
				l.PushFront(some)
				want = append(some, want...)
			default:
				if p := l.Pop(); len(want) == 0 {
					require.Nil(t, p)
				} else {
					require.True(t, want[0] == p)
					want = want[1:]
				}
			}
			require.Equal(t, len(want) == 0, l.Empty())
		}
		for _, p := range want {
			require.True(t, p == l.Pop())
		}
		require.True(t, l.Empty())
	}
}

func TestListHasCallback(t *testing.T) {
	var l frame.List
	assert.False(t, l.HasCallback())
	l.Push(frame.NewPacket(0, nil, nil))
	l.Push(frame.BorrowPacket(0, nil))
	assert.False(t, l.HasCallback())
	l.Push(frame.NewPacket(0, nil, func(error) {}))
	l.Push(frame.NewPacket(0, nil, nil))
	assert.True(t, l.HasCallback())
	for range 3 {
		l.Pop()
	}
	assert.False(t, l.HasCallback())
	var owner owned
	owner.packet.Own(0, nil, &owner)
	l.Push(&owner.packet)
	assert.False(t, l.HasCallback(), "an owner that nobody waits for")
	owner.awaited = true
	assert.True(t, l.HasCallback(), "one that somebody waits for")
}

// A borrowed packet is a copy, whatever its size, and whatever it was before.
func TestBorrowPacket(t *testing.T) {
	for _, size := range []int{0, 1, 100, frame.LargestBorrowed, frame.LargestBorrowed + 1, 1 << 20, 3} {
		payload := noise(size)
		p := frame.BorrowPacket(frame.KindText, payload)
		clear(payload)
		assert.Equal(t, frame.KindText, p.Type())
		assert.True(t, string(noise(size)) == string(p.Bytes()), "%d bytes", size)
		p.Refuse(errBroken)
		p.Finish(nil)
		p.Recycle()
		again := frame.BorrowPacket(0, nil)
		assert.False(t, again.Refused(), "nothing is left of what it was")
		assert.Empty(t, again.Bytes())
		assert.Nil(t, again.Shared())
		again.Recycle()
	}
	p := frame.NewPacket(7, []byte("my own"), nil)
	p.Recycle()
	assert.Equal(t, "my own", string(p.Bytes()), "others are left alone")
}

// Packets go from hand to hand, and no two have the same at a time.
func TestBorrowPacketConcurrently(t *testing.T) {
	const makers, each = 8, 2000
	handed := make(chan *frame.Packet, 64)
	var making, using sync.WaitGroup
	for who := range makers {
		making.Go(func() {
			for i := range each {
				word := fmt.Sprintf("%d/%d ", who, i)
				handed <- frame.BorrowPacket(len(word), []byte(strings.Repeat(word, 1+i%400)))
			}
		})
	}
	var wrong, got atomic.Int64
	for range makers {
		using.Go(func() {
			for p := range handed {
				before := string(p.Bytes())
				word := before[:p.Type()]
				runtime.Gosched()
				if strings.ReplaceAll(before, word, "") != "" || before != string(p.Bytes()) {
					wrong.Add(1)
				}
				p.Finish(nil)
				p.Recycle()
				got.Add(1)
			}
		})
	}
	making.Wait()
	close(handed)
	using.Wait()
	assert.Zero(t, wrong.Load())
	assert.Equal(t, int64(makers*each), got.Load())
}

// owned is something that a packet is a part of, and is used again.
type owned struct {
	packet             frame.Packet
	finished, released int // plain: whoever has the packet is alone with it
	err                error
	disorder           bool
	awaited            bool
	back               chan *owned
}

func (o *owned) Awaited() bool { return o.awaited }

func (o *owned) Finished(err error) {
	o.disorder = o.disorder || o.finished != o.released
	o.finished++
	o.err = err
}

func (o *owned) Released() {
	o.released++
	o.disorder = o.disorder || o.finished != o.released
	if o.back != nil {
		o.back <- o
	}
}

// An owner hears of its packet's end once, and then that it has the packet back.
func TestOwnedPacket(t *testing.T) {
	var o owned
	for i, err := range []error{nil, errBroken, nil} {
		o.packet.Own(frame.KindBinary, []byte("payload"), &o)
		assert.Equal(t, frame.KindBinary, o.packet.Type())
		assert.Equal(t, "payload", string(o.packet.Bytes()))
		o.packet.Finish(err)
		o.packet.Finish(errBroken)
		assert.Equal(t, i+1, o.finished, "finishing again does nothing")
		assert.Equal(t, err, o.err)
		assert.Equal(t, i, o.released)
		o.packet.Recycle()
		assert.Equal(t, i+1, o.released)
	}
	assert.False(t, o.disorder)
	o.packet.Own(0, nil, &o)
	o.packet.Refuse(errBroken)
	o.packet.Finish(nil)
	assert.Equal(t, errBroken, o.err, "one that was refused")
}

// Owners are used again as soon as they have their packets back, by whoever is next.
func TestOwnedPacketsConcurrently(t *testing.T) {
	const workers, rounds = 8, 5000
	free := make(chan *owned, 16)
	queue := make(chan *frame.Packet, 16)
	var all []*owned
	for range cap(free) {
		o := &owned{back: free}
		all = append(all, o)
		free <- o
	}
	var putting, writing sync.WaitGroup
	for range workers {
		putting.Go(func() {
			for range rounds {
				o := <-free
				o.packet.Own(0, nil, o)
				queue <- &o.packet
			}
		})
		writing.Go(func() {
			for p := range queue {
				p.Finish(nil)
				p.Finish(errBroken)
				p.Recycle()
			}
		})
	}
	putting.Wait()
	close(queue)
	writing.Wait()
	finished := 0
	for _, o := range all {
		assert.False(t, o.disorder)
		assert.Equal(t, o.finished, o.released)
		assert.NoError(t, o.err)
		finished += o.finished
	}
	assert.Equal(t, workers*rounds, finished)
}

// Copies share memory, and no byte of it.
func TestSlab(t *testing.T) {
	var s frame.Slab
	var got [][]byte
	var want []string
	for i := range 2000 {
		size := i * 7 % 700
		if i%100 == 0 {
			size = frame.SlabSize + i
		}
		payload := []byte(strings.Repeat(string(rune('a'+i%26)), size))
		want = append(want, string(payload))
		c := s.Copy(payload, i*11%4000)
		clear(payload)
		require.NotNil(t, c)
		require.True(t, size > frame.SlabSmall || cap(c) == size, "one can append without writing to the next")
		got = append(got, c)
	}
	for i, c := range got {
		require.Equal(t, want[i], string(c))
		_ = append(c, "!!!"...)
		for k := range c {
			c[k] = '!'
		}
	}
	assert.NotNil(t, s.Copy(nil, 0), "an empty packet is a packet")
}
