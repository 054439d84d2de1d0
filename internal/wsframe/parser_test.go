package wsframe_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// reading is what came of reading a stream with a parser.
type reading struct {
	messages []conformance.Message
	err      error
	left     int // bytes behind the last whole frame
}

// read has p read b as it comes from a socket. size returns how many bytes come next.
func read(t testing.TB, p *wsframe.Parser, b []byte, size func() int) (r reading) {
	t.Helper()
	var buf []byte
	for len(b) > 0 {
		n := min(size(), len(b))
		buf, b = append(buf, b[:n]...), b[n:]
		for r.err == nil {
			m, took, err := p.Next(buf)
			if r.err = err; took == 0 || err != nil {
				break
			}
			if buf = buf[took:]; m.Kind != frame.KindNone {
				require.NotNil(t, m.Data)
				r.messages = append(r.messages, conformance.Message{Kind: m.Kind, Data: string(m.Data)})
			}
		}
		if r.left = len(buf); r.err != nil {
			return r
		}
		if p.Limit > 0 { // without require's price for each byte
			held, most := p.Held()+len(buf), max(p.Limit, p.Held()+wsframe.MaxControlSize)+wsframe.MaxHeaderSize
			if p.Held() > p.Limit || held >= most {
				require.FailNow(t, "too much is held", "%d bytes of fragments, %d in all, limit %d", p.Held(), held, p.Limit)
			}
		}
	}
	return r
}

func whole() int     { return math.MaxInt }
func oneByOne() int  { return 1 }
func atRandom() int  { return 1 + rand.IntN(20) }
func inBuffers() int { return 1 << 10 }

// code is what a server answers err with.
func code(err error) int {
	var bye *wsframe.CloseError
	switch {
	case errors.As(err, &bye):
		return bye.Code
	case errors.Is(err, frame.ErrPacketTooLarge):
		return wsframe.CodeTooBig
	}
	return wsframe.CodeOf(err)
}

func TestParser(t *testing.T) {
	ways := []struct {
		name string
		size func() int
	}{{"whole", whole}, {"byte by byte", oneByOne}, {"at random", atRandom}, {"in buffers", inBuffers}}
	names := map[string]bool{}
	for _, c := range conformance.Cases() {
		require.False(t, names[c.Name], "%s: names are unique", c.Name)
		names[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			for _, way := range ways {
				p := &wsframe.Parser{Limit: conformance.CaseLimit, Masked: true}
				r := read(t, p, c.Sent, way.size)
				assert.Empty(t, conformance.Difference(c.Received, r.messages), way.name)
				assert.Equal(t, c.Close, code(r.err), "%s: %v", way.name, r.err)
				var bye *wsframe.CloseError
				if assert.Equal(t, c.Answer, errors.As(r.err, &bye), "%s: %v", way.name, r.err) && c.Answer {
					assert.Equal(t, c.Reason, bye.Reason)
				}
				if c.Close == 0 {
					assert.Equal(t, c.Partial, r.left > 0, "%s: %d bytes are left", way.name, r.left)
				}
			}
		})
	}
}

// A client's parser takes what a server appends, and refuses what is masked.
func TestParserOfClient(t *testing.T) {
	var p wsframe.Parser
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		data := payload(size)
		sent := wsframe.Append(nil, frame.KindBinary, data)
		m, took, err := p.Next(sent)
		require.NoError(t, err)
		assert.Equal(t, len(sent), took)
		assert.Equal(t, frame.KindBinary, m.Kind)
		assert.True(t, string(data) == string(m.Data), "%d bytes", size)
		_, _, err = p.Next(wsframe.AppendMasked(nil, frame.KindBinary, data, [4]byte{1, 2, 3, 4}))
		assert.Equal(t, wsframe.CodeProtocolError, code(err))
	}
}

// The limit may change between calls: what is unfinished is measured by the new one.
func TestParserLimitChanges(t *testing.T) {
	p := wsframe.Parser{Limit: 10}
	fragment := wsframe.Append(nil, frame.KindBinary, payload(10))
	fragment[0] &^= 0x80
	_, took, err := p.Next(fragment)
	require.NoError(t, err)
	assert.Equal(t, len(fragment), took)
	assert.True(t, p.Unfinished())
	more := wsframe.Append(nil, 0, payload(1))
	_, _, err = p.Next(more)
	var large *frame.TooLargeError
	require.ErrorAs(t, err, &large)
	assert.Equal(t, frame.TooLargeError{Size: 11, Limit: 10}, *large)
	p.Limit = 11
	m, _, err := p.Next(more)
	require.NoError(t, err)
	assert.Len(t, m.Data, 11)
	assert.False(t, p.Unfinished())
	p.Limit = 0
	_, took, err = p.Next([]byte{0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	assert.NoError(t, err, "without a limit it waits for all of 2^63-1 bytes")
	assert.Zero(t, took)
}

// A loose parser lets text through that isn't UTF-8, but no such reason of a close frame.
func TestParserLoose(t *testing.T) {
	p := wsframe.Parser{Loose: true}
	m, _, err := p.Next(wsframe.Append(nil, frame.KindText, []byte("\xff")))
	require.NoError(t, err)
	assert.Equal(t, wsframe.Message{Kind: frame.KindText, Data: []byte("\xff")}, m)
	_, _, err = p.Next(wsframe.Append(nil, frame.KindClose, []byte("\x03\xe8\xff")))
	assert.Equal(t, wsframe.CodeInvalidData, code(err))
}

// A message is bounded by its own capacity, and one that came in fragments is nobody else's.
func TestParserMessagesAreApart(t *testing.T) {
	var p wsframe.Parser
	buf := append(wsframe.Append(nil, frame.KindText, []byte("one")), wsframe.Append(nil, frame.KindText, []byte("two"))...)
	m, took, err := p.Next(buf)
	require.NoError(t, err)
	_ = append(m.Data, "overwritten"...)
	m, _, err = p.Next(buf[took:])
	require.NoError(t, err)
	assert.Equal(t, "two", string(m.Data))

	fragments := []byte("\x01\x01a\x80\x01b\x01\x01c\x80\x01d")
	var whole [][]byte
	for b := fragments; len(b) > 0; {
		m, took, err := p.Next(b)
		require.NoError(t, err)
		if b = b[took:]; m.Kind != frame.KindNone {
			whole = append(whole, m.Data)
		}
	}
	clear(fragments)
	assert.Equal(t, [][]byte{[]byte("ab"), []byte("cd")}, whole)
}

func TestValidCode(t *testing.T) {
	valid := map[int]bool{}
	for _, r := range [][2]int{{1000, 1003}, {1007, 1014}, {3000, 4999}} {
		for code := r[0]; code <= r[1]; code++ {
			valid[code] = true
		}
	}
	for code := -1; code <= 1<<16; code++ {
		assert.Equal(t, valid[code], wsframe.ValidCode(code), "%d", code)
	}
}

func TestCodeOf(t *testing.T) {
	assert.Zero(t, wsframe.CodeOf(nil))
	assert.Zero(t, wsframe.CodeOf(&wsframe.CloseError{Code: 1002}))
	assert.Zero(t, wsframe.CodeOf(&frame.TooLargeError{Limit: 1}))
	assert.Equal(t, 1002, wsframe.CodeOf(errors.Join(errors.New("read"), &wsframe.Error{Code: 1002})))
}
