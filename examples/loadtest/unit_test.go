package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPacketsTellEveryBit(t *testing.T) {
	for _, size := range []int{headerSize, headerSize + 1, 64} {
		p := newPackets(size)
		packet := p.append(nil, 7, 1<<40+3)
		require.Len(t, packet, size)
		client, number, ok := p.read(packet)
		assert.True(t, ok)
		assert.EqualValues(t, 7, client)
		assert.EqualValues(t, uint64(1<<40+3), number)
		for bit := range 8 * size {
			packet[bit/8] ^= 1 << (bit % 8)
			_, _, ok := p.read(packet)
			assert.False(t, ok, "size %d, bit %d", size, bit)
			packet[bit/8] ^= 1 << (bit % 8)
		}
		_, _, ok = p.read(packet[:size-1])
		assert.False(t, ok, "too short")
		_, _, ok = p.read(append(packet, 0))
		assert.False(t, ok, "too long")
		_, _, ok = newPackets(size).read(packet)
		assert.False(t, ok, "of another run")
	}
}

func TestFlight(t *testing.T) {
	type reply struct {
		number uint64
		want   outcome
	}
	put := func(at int64) any { return at }
	type giveUp struct {
		before int64
		want   int
	}
	for _, test := range []struct {
		name  string
		steps []any
		open  int
	}{
		{"in order", []any{put(1), reply{0, answered}, put(2), put(3), reply{1, answered}, reply{2, answered}}, 0},
		{"never sent", []any{reply{0, neverSent}, put(1), reply{1, neverSent}}, 1},
		{"out of order", []any{put(1), put(2), put(3), reply{2, answered}, reply{0, outOfOrder}, reply{1, outOfOrder}}, 0},
		{"doubled", []any{put(1), put(2), reply{0, answered}, reply{0, doubled}, reply{1, answered}, reply{1, doubled}}, 0},
		{"doubled, while an earlier one is open", []any{put(1), put(2), reply{1, answered}, reply{1, doubled}}, 1},
		{"late", []any{put(1), put(5), giveUp{5, 1}, reply{0, late}, reply{1, answered}}, 0},
		{"late, and doubled", []any{put(1), giveUp{5, 1}, reply{0, late}, reply{0, doubled}}, 0},
		{"given up once", []any{put(1), put(2), giveUp{5, 2}, giveUp{9, 0}}, 0},
		{"what was answered is not given up", []any{put(1), put(2), put(3), reply{1, answered}, giveUp{9, 2}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f flight
			for i, step := range test.steps {
				switch step := step.(type) {
				case int64:
					f.put(step)
				case reply:
					got, _ := f.answer(step.number)
					assert.Equal(t, step.want, got, "step %d", i)
				case giveUp:
					lost := 0
					assert.Equal(t, step.want, f.giveUp(step.before, func(int64) { lost++ }), "step %d", i)
					assert.Equal(t, step.want, lost, "step %d", i)
				}
			}
			assert.Equal(t, test.open, f.open)
		})
	}
}

// Times stay with their numbers while more and more packets are open.
func TestFlightGrows(t *testing.T) {
	var f flight
	const n = 100
	for i := range int64(n) {
		f.put(2*i + 1)
		f.put(2*i + 2)
		what, at := f.answer(uint64(i))
		require.Equal(t, answered, what)
		require.Equal(t, i+1, at)
	}
	assert.Equal(t, n, f.open)
}

func TestParseStat(t *testing.T) {
	const fields = " S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 77 1000 3 18446744073709551615 0"
	u, err := parseStat(42, []byte("42 (a) b (c))"+fields))
	require.NoError(t, err)
	assert.Equal(t, "a) b (c)", u.name)
	assert.Equal(t, 3*time.Second, u.cpu)
	assert.Positive(t, u.resident)
	assert.Zero(t, u.resident%3, "3 pages")
	for _, bad := range []string{"", "42", "42 (a) S 1 2", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0 0 20 0 1 0 77 1000 3 9"} {
		_, err := parseStat(42, []byte(bad))
		assert.ErrorContains(t, err, "process 42", bad)
	}
}

// A gateway that stalls must not hide in an open loop: packets count from when they were to be sent.
func TestLatencyCountsFromTheScheduledTime(t *testing.T) {
	p := &pacer{first: 1000, gap: 250.5}
	assert.EqualValues(t, 1000, p.due(0))
	assert.EqualValues(t, 1250, p.due(1))
	assert.EqualValues(t, 1000+250500, p.due(1000), "fractions add up")
}
