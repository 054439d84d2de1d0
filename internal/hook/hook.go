// Package hook keeps handlers in the order of their priorities. Registering and reading are allowed at any time, from
// any goroutine; reading takes no lock.
package hook

import (
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// List is a list of handlers. The zero value is empty and ready.
type List[H any] struct {
	mu    sync.Mutex // held by Add
	items atomic.Pointer[[]item[H]]
	plain atomic.Pointer[[]H]
}

type item[H any] struct {
	handler  H
	priority int
}

// Add registers handler. Lower priorities run earlier, equal ones in the order they were added; the default is 0.
func (l *List[H]) Add(handler H, priority ...int) {
	it := item[H]{handler: handler}
	if len(priority) > 0 {
		it.priority = priority[0]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var items []item[H]
	if old := l.items.Load(); old != nil {
		items = slices.Clone(*old)
	}
	at := len(items)
	for at > 0 && items[at-1].priority > it.priority {
		at--
	}
	items = slices.Insert(items, at, it)
	plain := make([]H, len(items))
	for i := range items {
		plain[i] = items[i].handler
	}
	l.items.Store(&items)
	l.plain.Store(&plain)
}

// All returns the handlers in order. The slice must not be changed.
func (l *List[H]) All() []H {
	if p := l.plain.Load(); p != nil {
		return *p
	}
	return nil
}

// Guard calls f. If f panics, Guard recovers and hands the panic's value and stack to report.
func Guard(f func(), report func(value any, stack []byte)) {
	defer func() {
		if v := recover(); v != nil {
			report(v, debug.Stack())
		}
	}()
	f()
}
