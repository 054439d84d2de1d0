package wsframe_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// A parser makes sense of any bytes, the same however they come, and holds no more of them than its limit.
func FuzzParser(f *testing.F) {
	for i, c := range conformance.Cases() {
		if len(c.Sent) < 1<<10 {
			f.Add(c.Sent, uint64(i), uint16(100), true, false)
			f.Add(c.Sent, uint64(i), uint16(1000), true, true)
		}
	}
	f.Add([]byte("\x81\x05Hello\x01\x03Hel\x89\x01?\x80\x02lo\x88\x02\x03\xe8"), uint64(1), uint16(5), false, false)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, limit uint16, masked, loose bool) {
		random := rand.New(rand.NewPCG(seed, 1))
		fresh := func() *wsframe.Parser { return &wsframe.Parser{Limit: int(limit), Masked: masked, Loose: loose} }
		want := read(t, fresh(), b, whole)
		for _, size := range []func() int{oneByOne, func() int { return 1 + random.IntN(9) }} {
			got := read(t, fresh(), b, size)
			require.Empty(t, conformance.Difference(want.messages, got.messages))
			require.Equal(t, want.err, got.err)
			if want.err == nil {
				require.Equal(t, want.left, got.left)
			}
		}
		for _, m := range want.messages {
			switch m.Kind {
			case frame.KindText:
				require.True(t, loose || utf8.ValidString(m.Data))
				fallthrough
			case frame.KindBinary:
				require.True(t, limit == 0 || len(m.Data) <= int(limit))
			default:
				require.Contains(t, []int{frame.KindPing, frame.KindPong}, m.Kind)
				require.LessOrEqual(t, len(m.Data), wsframe.MaxControlSize)
			}
		}
		if want.err != nil {
			require.True(t, wsframe.ValidCode(code(want.err)) || code(want.err) == wsframe.CodeNoStatus, "%v", want.err)
		}
	})
}

// What is appended comes out of a parser as it went in.
func FuzzAppend(f *testing.F) {
	for _, size := range []int{0, 1, 7, 125, 126, 300} {
		f.Add(payload(size), []byte("mask"))
	}
	f.Fuzz(func(t *testing.T, data, seed []byte) {
		var mask [4]byte
		copy(mask[:], seed)
		for _, p := range []wsframe.Parser{{}, {Masked: true}} {
			sent := wsframe.Append(nil, frame.KindBinary, data)
			if p.Masked {
				sent = wsframe.AppendMasked(nil, frame.KindBinary, data, mask)
			}
			m, took, err := p.Next(sent)
			require.NoError(t, err)
			require.Equal(t, len(sent), took)
			require.Equal(t, frame.KindBinary, m.Kind)
			require.True(t, bytes.Equal(data, m.Data))
		}
	})
}
