package wsframe_test

import (
	"strconv"
	"testing"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// sized runs a benchmark for payloads of 32 B, 1 KiB and 64 KiB.
func sized(b *testing.B, run func(b *testing.B, data []byte)) {
	for _, size := range []int{32, 1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			run(b, make([]byte, size))
		})
	}
}

func benchmarkParser(b *testing.B, kind int) {
	sized(b, func(b *testing.B, data []byte) {
		buf := wsframe.AppendMasked(nil, kind, data, [4]byte{}) // which unmasking leaves as it is
		p := wsframe.Parser{Limit: len(data), Masked: true}
		for b.Loop() {
			if _, took, err := p.Next(buf); took != len(buf) || err != nil {
				b.Fatal(took, err)
			}
		}
	})
}

func BenchmarkParserBinary(b *testing.B) { benchmarkParser(b, frame.KindBinary) }
func BenchmarkParserText(b *testing.B)   { benchmarkParser(b, frame.KindText) }

func BenchmarkAppend(b *testing.B) {
	sized(b, func(b *testing.B, data []byte) {
		var buf []byte
		for b.Loop() {
			buf = wsframe.Append(buf[:0], frame.KindBinary, data)
		}
	})
}

func BenchmarkAppendMasked(b *testing.B) {
	sized(b, func(b *testing.B, data []byte) {
		var buf []byte
		for b.Loop() {
			buf = wsframe.AppendMasked(buf[:0], frame.KindBinary, data, [4]byte{1, 2, 3, 4})
		}
	})
}

func BenchmarkMask(b *testing.B) {
	sized(b, func(b *testing.B, data []byte) {
		for b.Loop() {
			wsframe.Mask(data, [4]byte{1, 2, 3, 4})
		}
	})
}
