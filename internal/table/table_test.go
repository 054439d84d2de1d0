package table_test

import (
	"runtime"
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

// haxmap by itself loses keys here: 8 writers on disjoint keys and 8 readers, a million operations. A key that was
// added is found by everybody until it is deleted, and not afterwards.
func TestFenceLosesNothing(t *testing.T) {
	const writers, readers, operations = 8, 8, 1_000_000
	const rounds = operations / (writers + readers) / 2
	tab := table.New[uint64]()
	stable := uint64(1 << 40) // keys that stay for the whole test
	for i := range uint64(1000) {
		require.True(t, tab.Add(stable+i, i))
	}
	var done atomic.Bool
	var work, reading sync.WaitGroup
	for w := range uint64(writers) {
		work.Go(func() {
			for i := range uint64(rounds) {
				key := i*writers + w
				if !tab.Add(key, key) {
					t.Errorf("key %d: taken, and nobody else has it", key)
				}
				if got, ok := tab.Get(key); !ok || got != key {
					t.Errorf("key %d: lost after it was added", key)
				}
				if i%2 == 0 { // every second one stays
					if !tab.Delete(key) {
						t.Errorf("key %d: lost before it was deleted", key)
					}
					if _, ok := tab.Get(key); ok {
						t.Errorf("key %d: there after it was deleted", key)
					}
				}
			}
		})
	}
	for r := range uint64(readers) {
		reading.Go(func() {
			for i := uint64(0); i < 2*rounds || !done.Load(); i++ {
				n := (i*7 + r) % 1000
				if got, ok := tab.Get(stable + n); !ok || got != n {
					t.Errorf("key %d: missed while others were written", stable+n)
					return
				}
				if i >= 2*rounds {
					runtime.Gosched() // the writers are who is waited for
				}
			}
		})
	}
	work.Wait()
	done.Store(true)
	reading.Wait()
	assert.Equal(t, 1000+writers*(rounds/2), tab.Len())
	for w := range uint64(writers) {
		for i := range uint64(rounds) {
			key := i*writers + w
			_, ok := tab.Get(key)
			require.Equal(t, i%2 == 1, ok, "key %d at the end", key)
		}
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
