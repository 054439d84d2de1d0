package gwtest

import (
	"math"
	"runtime"
	"runtime/debug"
)

// Mallocs returns how many objects the whole process allocates for one of n calls of f: the least of three measurements, for what
// else the process does, or a pool that was emptied, can only add to it. A tenth as many calls before fill the pools; the garbage
// collector, which empties them, is off meanwhile. The first error ends it.
func Mallocs(n int, f func() error) (float64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	least := math.Inf(1)
	for range 3 {
		each, err := mallocs(n, f)
		if err != nil {
			return 0, err
		}
		least = min(least, each)
		runtime.GC() // or what three of them leave might be too much
	}
	return least, nil
}

func mallocs(n int, f func() error) (float64, error) {
	for range max(n/10, 1) {
		if err := f(); err != nil {
			return 0, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}
