package wsframe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// Keys are all over the place, and no two connections have the same ones.
func TestKeys(t *testing.T) {
	const n = 1000
	a, b := wsframe.NewKeys(), wsframe.NewKeys()
	seen := map[[4]byte]bool{}
	var ones [32]int
	for range n {
		for _, key := range [][4]byte{a.Next(), b.Next()} {
			seen[key] = true
			for bit := range ones {
				ones[bit] += int(key[bit/8] >> (bit % 8) & 1)
			}
		}
	}
	assert.Greater(t, len(seen), 2*n-5)
	for bit, count := range ones { // 22 is the deviation to be expected: this is ten times that
		assert.InDelta(t, n, count, 220, "bit %d", bit)
	}
}

func TestKeysAllocateNothing(t *testing.T) {
	keys := wsframe.NewKeys()
	assert.Zero(t, testing.AllocsPerRun(1000, func() { keys.Next() }))
}

func BenchmarkKeys(b *testing.B) {
	keys := wsframe.NewKeys()
	for b.Loop() {
		keys.Next()
	}
}
