// Package table is the keyed table of what is live: integer keys, look-ups without a lock. It is the only user of
// haxmap, and fences two of its faults (1.4.1): concurrent writers lose keys, even disjoint ones, and a look-up may miss
// a key that is there while others are written.
package table

import (
	"sync"

	"github.com/alphadose/haxmap"
)

// Table maps uint64 keys to values. Every method may be called from any goroutine.
type Table[V any] struct {
	mu sync.Mutex // serialises writers; taken by a reader only to make sure of a miss
	m  *haxmap.Map[uint64, V]
	n  int // guarded by mu
}

// New returns an empty Table.
func New[V any]() *Table[V] { return &Table[V]{m: haxmap.New[uint64, V]()} }

// Get returns the value under key. A hit takes no lock.
func (t *Table[V]) Get(key uint64) (V, bool) {
	if v, ok := t.m.Get(key); ok {
		return v, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m.Get(key)
}

// Add stores value under key and reports true, or reports false and changes nothing if key is taken.
func (t *Table[V]) Add(key uint64, value V) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.m.Get(key); taken {
		return false
	}
	t.m.Set(key, value)
	t.n++
	return true
}

// Delete removes key and reports whether it was there.
func (t *Table[V]) Delete(key uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.m.Get(key); !ok {
		return false
	}
	t.m.Del(key)
	t.n--
	return true
}

// Len returns the number of keys.
func (t *Table[V]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}
