package gwtest

import (
	"runtime"
	"runtime/debug"
)

// Mallocs returns how many objects the whole process allocates for one of n calls of f. A tenth as many before fill the pools; the
// garbage collector, which empties them, is off meanwhile. The first error ends it.
func Mallocs(n int, f func() error) (float64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
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
