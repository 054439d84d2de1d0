//go:build !race

package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A session finds its lane for nothing, the first time and each other.
func TestLaneAllocations(t *testing.T) {
	e := offline(NewGateway(nil, nil), "10.0.0.1:1", 4)
	o := &opening{endpoint: e, session: &session{}}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { e.chooseLane(o); o.unpin() }), "choose")
	l := e.chooseLane(o)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if e.chooseLane(o) != l || !o.on(l) {
			t.Error("another lane")
		}
	}), "find")
}

// Selectors choose among few for nothing. WeightedSelector notes the shares of more than 32 elsewhere.
func TestSelectorAllocations(t *testing.T) {
	for _, s := range allSelectors {
		for n, most := range map[int]float64{2: 0, 16: 0, 256: 4} {
			endpoints := offlines(n)
			assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() { s.EndpointSelector(endpoints) }), most, "%s of %d", s.name, n)
		}
	}
}

// What takes packets apart returns parts of them.
func TestParsingAllocations(t *testing.T) {
	out := append(appendOutHeader(nil, sampleKey), "payload"...)
	in := append(appendInHeader(nil, sampleKey, 2), "payload"...)
	dst := make([]byte, 0, 100)
	for name, f := range map[string]func(){
		"an endpoint's packet": func() { _, _ = getKey(in), in[headerSize:] },
		"is it a gateway's":    func() { isOutPacket(out) },
		"is it HELLO":          func() { isHello(out) },
		"is it control":        func() { _, _, _ = inControl(in) },
		"append a header":      func() { _ = appendOutHeader(dst, sampleKey) },
		"append the other":     func() { _ = appendInHeader(dst, sampleKey, 1) },
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, f), name)
	}
}
