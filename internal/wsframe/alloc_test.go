//go:build !race

package wsframe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

var key = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// A message in one frame costs no memory, nor does a ping, nor one of which only a part is there.
func TestParserAllocations(t *testing.T) {
	for _, kind := range []int{frame.KindText, frame.KindBinary, frame.KindPing, frame.KindPong} {
		b := wsframe.AppendMasked(nil, kind, make([]byte, 100), [4]byte{}) // which unmasking leaves as it is
		p := wsframe.Parser{Limit: 100, Masked: true}
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if _, took, err := p.Next(b); took != len(b) || err != nil {
				panic(err)
			}
			if _, took, err := p.Next(b[:50]); took != 0 || err != nil {
				panic(err)
			}
		}))
	}
}

// One in fragments costs what it is put together in.
func TestFragmentsAllocations(t *testing.T) {
	b := wsframe.AppendMasked(nil, frame.KindBinary, make([]byte, 100), [4]byte{})
	b[0] &^= 0x80
	last := wsframe.AppendMasked(nil, 0, nil, [4]byte{})
	p := wsframe.Parser{Limit: 100, Masked: true}
	assert.Equal(t, 2.0, testing.AllocsPerRun(100, func() { // the message, and its bytes
		_, _, _ = p.Next(b)
		if m, _, err := p.Next(last); len(m.Data) != 100 || err != nil {
			panic(err)
		}
	}))
}

func TestAppendAllocations(t *testing.T) {
	dst, data := make([]byte, 0, 1<<10), make([]byte, 300)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_ = wsframe.Append(dst, frame.KindBinary, data)
		_ = wsframe.AppendMasked(dst, frame.KindBinary, data, key)
	}))
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = wsframe.ClosePayload(1000, "why") }), 1.0)
}
