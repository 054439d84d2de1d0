package proxyproto_test

import (
	"bufio"
	"io"
	"strings"
	"testing"

	oracle "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/proxyproto"
	"github.com/minotaur-gateway/gateway/internal/trust"
)

// ask lets the oracle read a header, and returns what it says and how much it left.
func ask(stream string) (h *oracle.Header, left int, err error) {
	r := bufio.NewReaderSize(strings.NewReader(stream), 1<<17)
	if h, err = oracle.Read(r); err != nil {
		return nil, 0, err
	}
	rest, _ := io.Copy(io.Discard, r) // from memory
	return h, int(rest), nil
}

// assertSame compares a header that both have accepted.
func assertSame(t *testing.T, want *oracle.Header, got proxyproto.Header) {
	t.Helper()
	assert.Equal(t, int(want.Version), got.Version)
	assert.Equal(t, want.Version == 2 && want.Command.IsLocal(), got.Local)
	source, named := trust.AddrPort(want.SourceAddr)
	if named = named && !want.Command.IsLocal(); !named {
		assert.False(t, got.Named())
		return
	}
	destination, _ := trust.AddrPort(want.DestinationAddr)
	assert.Equal(t, source, got.Source)
	assert.Equal(t, destination, got.Destination)
}

func TestOracle(t *testing.T) {
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			want, left, wantErr := ask(tt.header + behind)
			got, _, err := proxyproto.Read(strings.NewReader(tt.header + behind))
			switch tt.pires {
			case agrees:
				require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
				if err == nil {
					assertSame(t, want, got)
					assert.Equal(t, len(behind), left)
				}
			case lenient:
				assert.NoError(t, wantErr)
				assert.Error(t, err)
			case stricter:
				assert.Error(t, wantErr)
				assert.NoError(t, err)
			}
		})
	}
}

// FuzzOracle holds that both read the same from what both accept, and that only what the table above explains tells them apart.
func FuzzOracle(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.header + behind))
		f.Add([]byte(tt.header[:len(tt.header)/2]))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := strings.NewReader(string(stream))
		got, read, err := proxyproto.Read(r)
		want, left, wantErr := ask(string(stream))
		switch {
		case err == nil && wantErr == nil:
			assertSame(t, want, got)
			require.Equal(t, left, r.Len())
		case err == nil:
			require.Equal(t, 2, got.Version)
			require.False(t, got.Named(), "whom the oracle doesn't believe isn't named")
			require.True(t, got.Local || stream[13] == 0x00, "%v", wantErr)
		case wantErr == nil:
			require.ErrorIs(t, err, proxyproto.ErrMalformed)
			require.Equal(t, byte(2), want.Version)
			tlvs, tlvErr := want.TLVs()
			sum := false
			for _, each := range tlvs {
				sum = sum || each.Type == oracle.PP2_TYPE_CRC32C
			}
			require.True(t, tlvErr != nil || sum, "%v", err)
		default:
			require.LessOrEqual(t, len(read), len(signature2))
			require.Equal(t, err == proxyproto.ErrNoHeader, len(read) > 0)
			require.True(t, strings.HasPrefix(string(stream), string(read)))
		}
		again, _, againErr := proxyproto.Read(&slowReader{stream})
		require.Equal(t, got, again, "byte by byte")
		require.Equal(t, err == nil, againErr == nil)
	})
}

// slowReader gives a byte at a time.
type slowReader struct{ rest []byte }

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(1, len(p))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
