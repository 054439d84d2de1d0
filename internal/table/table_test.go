package table_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTable(t *testing.T) {
	tab := table.New[string]()
	_, ok := tab.Get(7)
	assert.False(t, ok)
	assert.True(t, tab.Add(7, "seven"))
	assert.False(t, tab.Add(7, "other"), "taken")
	got, ok := tab.Get(7)
	assert.True(t, ok)
	assert.Equal(t, "seven", got)
	assert.Equal(t, 1, tab.Len())
	assert.True(t, tab.Delete(7))
	assert.False(t, tab.Delete(7))
	assert.Zero(t, tab.Len())
	_, ok = tab.Get(7)
	assert.False(t, ok)
}

// 8 writers, each on keys of its own that lie among the others', and 8 readers, more than a million operations. What was
// added is found until it is deleted, and not afterwards. haxmap by itself misses some tens to a thousand of them here.
func TestFenceLosesNothing(t *testing.T) {
	const writers, readers, rounds, own = 8, 8, 25_000, 16
	tab := table.New[int]()
	const stable = uint64(1 << 40) // keys that stay for the whole test
	for i := range 1000 {
		require.True(t, tab.Add(stable+uint64(i), i))
	}
	var missed, ghosts, lost atomic.Int64
	var done atomic.Bool
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				key := uint64(i%own*writers + w)
				if !tab.Add(key, i) {
					ghosts.Add(1)
				}
				if got, ok := tab.Get(key); !ok || got != i {
					missed.Add(1)
				}
				if !tab.Delete(key) {
					missed.Add(1)
				}
				if _, ok := tab.Get(key); ok {
					ghosts.Add(1)
				}
			}
		})
	}
	for r := range readers {
		reading.Go(func() {
			for i := r; i < 2*rounds || !done.Load() && i < 20*rounds; i++ {
				if got, ok := tab.Get(stable + uint64(i%1000)); !ok || got != i%1000 {
					lost.Add(1)
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	assert.Zero(t, missed.Load(), "keys missed that had been added")
	assert.Zero(t, ghosts.Load(), "keys found that had been deleted")
	assert.Zero(t, lost.Load(), "keys missed that nobody touched")
	assert.Equal(t, 1000, tab.Len())
	for i := range 1000 {
		_, ok := tab.Get(stable + uint64(i))
		assert.True(t, ok)
	}
}

func BenchmarkGet(b *testing.B) {
	tab := table.New[uint64]()
	for i := range uint64(10_000) {
		tab.Add(i*7919, i)
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		tab.Get(i % 10_000 * 7919)
	}
}

func BenchmarkGetInParallel(b *testing.B) {
	tab := table.New[uint64]()
	for i := range uint64(10_000) {
		tab.Add(i*7919, i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			tab.Get(i % 10_000 * 7919)
		}
	})
}

func BenchmarkAddDelete(b *testing.B) {
	tab := table.New[uint64]()
	for i := range uint64(10_000) {
		tab.Add(i*7919, i)
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		key := i%10_000*7919 + 1
		tab.Add(key, i)
		tab.Delete(key)
	}
}
