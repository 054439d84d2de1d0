package hook_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Lower priorities run earlier, equal ones in the order they were added.
func TestOrder(t *testing.T) {
	var l hook.List[string]
	assert.Empty(t, l.All())
	l.Add("c", 1)
	l.Add("b")
	l.Add("a", -1)
	l.Add("b2", 0)
	l.Add("c2", 1, 99)
	assert.Equal(t, []string{"a", "b", "b2", "c", "c2"}, l.All())
}

// What was read before an Add stays as it was.
func TestAllIsASnapshot(t *testing.T) {
	var l hook.List[int]
	l.Add(1)
	before := l.All()
	l.Add(0, -1)
	assert.Equal(t, []int{1}, before)
	assert.Equal(t, []int{0, 1}, l.All())
}

func TestConcurrentAdd(t *testing.T) {
	const adders, each = 8, 50
	var l hook.List[int]
	var adding sync.WaitGroup
	for who := range adders {
		adding.Go(func() {
			for i := range each {
				l.Add(who*each+i, who)
				assert.NotEmpty(t, l.All())
			}
		})
	}
	adding.Wait()
	want := make([]int, adders*each)
	for i := range want {
		want[i] = i
	}
	assert.Equal(t, want, l.All())
}

func TestGuard(t *testing.T) {
	hook.Guard(func() {}, func(any, []byte) { assert.Fail(t, "nothing panicked") })
	reports := 0
	hook.Guard(func() { panic("boom") }, func(value any, stack []byte) {
		reports++
		assert.Equal(t, "boom", value)
		assert.Contains(t, string(stack), "TestGuard", "where it panicked")
	})
	assert.Equal(t, 1, reports)
}
