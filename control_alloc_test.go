//go:build !race

package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The packets that come and go by the thousand cost their bytes, and nothing else.
func TestControlAllocations(t *testing.T) {
	cast := appendCast(nil, &castBody{kind: 2, to: castKeys, keys: appendKey(nil, sampleKey), payload: []byte("hi")})
	closing := appendClose(nil, sampleKey, 1, causeLeft)
	attached := appendAttached(nil, &attachedBody{key: sampleKey})
	flow := append(appendKey(nil, sampleKey), 1)
	for name, f := range map[string]func(){
		"read CAST":     func() { _, _ = readCast(cast) },
		"read CLOSE":    func() { _, _, _, _ = readClose(closing) },
		"read ATTACHED": func() { _, _ = readAttached(attached) },
		"read TYPE":     func() { _, _, _ = readType(flow) },
		"read FLOW":     func() { _ = readFlow(flow, func(uint64, bool) {}) },
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, f), name)
	}
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() { appendClose(beginControl(true, ctlClose, 16), sampleKey, 1, causeLeft) }), 1.0, "write CLOSE")
}
