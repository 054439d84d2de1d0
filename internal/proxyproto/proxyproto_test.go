package proxyproto_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/proxyproto"
)

const behind = "\x00\x00\x00\x05hello" // what comes after the header

func TestRead(t *testing.T) {
	for _, tt := range headers {
		for how, slow := range map[string]func(io.Reader) io.Reader{
			"at once":        func(r io.Reader) io.Reader { return r },
			"byte by byte":   iotest.OneByteReader,
			"half by half":   iotest.HalfReader,
			"end with bytes": iotest.DataErrReader,
		} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				r := strings.NewReader(tt.header + behind)
				h, read, err := proxyproto.Read(slow(r))
				if tt.bad {
					assert.ErrorIs(t, err, proxyproto.ErrMalformed)
					return
				}
				require.NoError(t, err)
				assert.Nil(t, read)
				assert.Equal(t, tt.version, h.Version)
				assert.Equal(t, tt.source != "", h.Named())
				assert.Equal(t, ap(tt.source), h.Source)
				assert.Equal(t, ap(tt.destination), h.Destination)
				assert.Equal(t, strings.Contains(tt.name, "LOCAL"), h.Local)
				if how != "end with bytes" { // which reads ahead
					assert.Equal(t, len(behind), r.Len(), "not a byte more")
				}
			})
		}
	}
}

func TestReadCutShort(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range headers {
		if tt.bad {
			continue
		}
		for n := range len(tt.header) {
			_, _, err := proxyproto.Read(strings.NewReader(tt.header[:n]))
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			require.ErrorIs(t, err, want, "%s, %d bytes", tt.name, n)
			require.NotErrorIs(t, err, proxyproto.ErrMalformed)
			_, _, err = proxyproto.Read(io.MultiReader(strings.NewReader(tt.header[:n]), iotest.ErrReader(broken)))
			require.ErrorIs(t, err, broken, "%s, %d bytes", tt.name, n)
		}
	}
}

func TestReadNoHeader(t *testing.T) {
	for _, begin := range []string{
		"GET / HTTP/1.1\r\nHost: game\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x00\x00\x05hello", "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n", " PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXYTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
		"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY\r\n", "\r\n\r\n\x00\r\nQUIT\r", "\r\nPROXY UNKNOWN\r\n", "\n", "x",
	} {
		for how, slow := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			t.Run(begin+" "+how, func(t *testing.T) {
				r := strings.NewReader(begin)
				h, read, err := proxyproto.Read(slow(r))
				require.ErrorIs(t, err, proxyproto.ErrNoHeader)
				assert.NotErrorIs(t, err, proxyproto.ErrMalformed)
				assert.False(t, h.Named())
				rest, err := io.ReadAll(r)
				require.NoError(t, err)
				assert.Equal(t, begin, string(read)+string(rest), "nothing is lost")
			})
		}
	}
}

func TestReadTellsAsSoonAsPossible(t *testing.T) {
	for name, begin := range map[string]string{
		"1: protocol": "PROXY UDP4 1", "1: LF": "PROXY UNKNOWN\n", "1: LF of TCP4": "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "1: an LF within": "PROXY TCP4 1.2.3.4\n",
		"2: version": signature2 + "\x11\x11\x00\x0c", "2: too long": signature2 + "\x21\x11\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			hang := iotest.ErrReader(errors.New("it waits for more"))
			_, _, err := proxyproto.Read(io.MultiReader(iotest.OneByteReader(strings.NewReader(begin)), hang))
			assert.ErrorIs(t, err, proxyproto.ErrMalformed)
		})
	}
}

func TestErrorsNameNumbers(t *testing.T) {
	_, _, err := proxyproto.Read(strings.NewReader(signature2 + "\x21\x11\xff\xff"))
	assert.ErrorContains(t, err, "65535 bytes")
	assert.ErrorContains(t, err, "at most 4096")
}

func TestReadBeforeAllocating(t *testing.T) {
	header := strings.NewReader(signature2 + "\x21\x11\xff\xff" + strings.Repeat("x", 1<<16))
	_, _, err := proxyproto.Read(header)
	require.ErrorIs(t, err, proxyproto.ErrMalformed)
	assert.Equal(t, 1<<16, header.Len(), "nothing of it was read")
}

func TestReadAllocates(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		most         float64
	}{
		{"1", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 3},
		{"2", v2(proxy, 0x11, v4Body, tlv(0x04, "abc")), 1},
		{"2: with a checksum", summed(v2(proxy, 0x21, v6Body, tlv(0x03, noSum))), 1},
		{"2: large", v2(proxy, 0x11, v4Body, tlv(0x04, strings.Repeat("x", 2000))), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := strings.NewReader(tt.header)
			got := testing.AllocsPerRun(200, func() {
				r.Reset(tt.header)
				if _, _, err := proxyproto.Read(r); err != nil {
					t.Fatal(err)
				}
			})
			assert.LessOrEqual(t, got, tt.most)
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for name, header := range map[string]string{
		"v1": "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "v2": v2(proxy, 0x11, v4Body),
		"v2 with a checksum": summed(v2(proxy, 0x11, v4Body, tlv(0x03, noSum))),
	} {
		b.Run(name, func(b *testing.B) {
			r := bytes.NewReader(nil)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset([]byte(header))
				if _, _, err := proxyproto.Read(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
