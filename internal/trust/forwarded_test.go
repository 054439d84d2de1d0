package trust_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/trust"
)

func TestClient(t *testing.T) {
	trusted := prefixes(t, "10.0.0.0/8", "2001:db8::/32")
	for _, tt := range []struct {
		name  string
		lines []string
		want  string // "": malformed
	}{
		{"one", []string{"1.2.3.4"}, "1.2.3.4:0"},
		{"with a port", []string{"1.2.3.4:567"}, "1.2.3.4:567"},
		{"v6", []string{"2001:db9::1"}, "[2001:db9::1]:0"},
		{"v6 in brackets", []string{"[2001:db9::1]"}, "[2001:db9::1]:0"},
		{"v6 with a port", []string{"[2001:db9::1]:65535"}, "[2001:db9::1]:65535"},
		{"v6 that ends with a colon", []string{"2001:db9::"}, "[2001:db9::]:0"},
		{"mapped", []string{"::ffff:1.2.3.4"}, "1.2.3.4:0"},
		{"mapped in brackets, with a port", []string{"[::ffff:1.2.3.4]:5"}, "1.2.3.4:5"},
		{"claims to the left", []string{"6.6.6.6, 7.7.7.7, 1.2.3.4"}, "1.2.3.4:0"},
		{"claims in a line of their own", []string{"6.6.6.6", "1.2.3.4"}, "1.2.3.4:0"},
		{"proxies to the right", []string{"6.6.6.6, 1.2.3.4,10.0.0.1 ,\t10.0.0.2"}, "1.2.3.4:0"},
		{"proxies in lines of their own", []string{"6.6.6.6, 1.2.3.4", "10.0.0.1", "[2001:db8::1]:443"}, "1.2.3.4:0"},
		{"a mapped proxy", []string{"1.2.3.4, ::ffff:10.0.0.1"}, "1.2.3.4:0"},
		{"a proxy behind the client", []string{"10.0.0.9, 1.2.3.4, 10.0.0.1"}, "1.2.3.4:0"},
		{"all trusted", []string{"10.0.0.9, 10.0.0.1", "10.0.0.2"}, "10.0.0.9:0"},
		{"one, trusted", []string{"10.0.0.9:7"}, "10.0.0.9:7"},
		{"rubbish to the left of the client", []string{"unknown, <script>, 1.2.3.4, 10.0.0.1"}, "1.2.3.4:0"},
		{"nothing to the left of the client", []string{",1.2.3.4"}, "1.2.3.4:0"},
		{"blanks", []string{"   1.2.3.4\t "}, "1.2.3.4:0"},

		{"rubbish", []string{"rubbish"}, ""},
		{"rubbish to the left of proxies", []string{"rubbish, 10.0.0.1"}, ""},
		{"rubbish in a line to the left of proxies", []string{"rubbish", "10.0.0.1"}, ""},
		{"rubbish to the right", []string{"1.2.3.4, unknown"}, ""},
		{"empty", []string{""}, ""},
		{"nothing but a comma", []string{","}, ""},
		{"empty to the right", []string{"1.2.3.4,"}, ""},
		{"empty between", []string{"1.2.3.4, , 10.0.0.1"}, ""},
		{"an empty line to the right", []string{"1.2.3.4", ""}, ""},
		{"all trusted but for nothing", []string{", 10.0.0.1"}, ""},
		{"port without digits", []string{"1.2.3.4:"}, ""},
		{"port too high", []string{"1.2.3.4:65536"}, ""},
		{"negative port", []string{"1.2.3.4:-1"}, ""},
		{"v4 in brackets", []string{"[1.2.3.4]"}, ""},
		{"v4 in brackets, with a port", []string{"[1.2.3.4]:5"}, ""},
		{"bracket left open", []string{"[2001:db9::1"}, ""},
		{"bracket not opened", []string{"2001:db9::1]:80"}, ""},
		{"empty brackets", []string{"[]:80"}, ""},
		{"leading zeros", []string{"001.2.3.4"}, ""},
		{"octal", []string{"0177.0.0.1"}, ""},
		{"three numbers", []string{"1.2.3"}, ""},
		{"a number too large", []string{"1.2.3.256"}, ""},
		{"a zone", []string{"fe80::1%eth0"}, ""},
		{"a zone in brackets", []string{"[fe80::1%eth0]"}, ""},
		{"a zone in brackets, with a port", []string{"[fe80::1%eth0]:80"}, ""},
		{"quoted, as in Forwarded", []string{`"1.2.3.4"`}, ""},
		{"a pair, as in Forwarded", []string{"for=1.2.3.4"}, ""},
		{"a name", []string{"localhost"}, ""},
		{"semicolons", []string{"1.2.3.4; 10.0.0.1"}, ""},
		{"blanks between", []string{"1.2.3.4 10.0.0.1"}, ""},
		{"a NUL behind", []string{"1.2.3.4\x00"}, ""},
		{"a line's end", []string{"1.2.3.4\r\n"}, ""},
		{"a prefix", []string{"1.2.3.4/32"}, ""},
		{"hexadecimal", []string{"0x01020304"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, err := trust.Client(tt.lines, trusted)
			if tt.want == "" {
				assert.ErrorIs(t, err, trust.ErrMalformed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, client.String())
		})
	}
}

func TestClientThatNobodyNames(t *testing.T) {
	_, err := trust.Client(nil, prefixes(t, "10.0.0.0/8"))
	assert.ErrorIs(t, err, trust.ErrNotForwarded)
}

func TestClientErrorIsShort(t *testing.T) {
	_, err := trust.Client([]string{strings.Repeat("x", 1<<16)}, nil)
	require.ErrorIs(t, err, trust.ErrMalformed)
	assert.Less(t, len(err.Error()), 200)
}

func TestClientAllocatesNothing(t *testing.T) {
	trusted, lines := prefixes(t, "10.0.0.0/8"), []string{"6.6.6.6, [2001:db9::1]:44", "10.0.0.1, 10.0.0.2:80"}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := trust.Client(lines, trusted); err != nil {
			t.Fatal(err)
		}
	})
	assert.Zero(t, allocs)
}

// naive is Client as one would write it at first: all entries, from the left.
func naive(lines []string, trusted trust.Prefixes) (string, bool) {
	entries := strings.Split(strings.Join(lines, ","), ",")
	for i := len(entries) - 1; i >= 0; i-- {
		client, err := trust.Client(entries[i:i+1], nil)
		if err != nil {
			return "", false
		}
		if !trusted.Contains(client.Addr()) || i == 0 {
			return client.String(), true
		}
	}
	return "", false
}

func FuzzClient(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "1.2.3.4:5, [::1]:80\n10.0.0.1", "10.0.0.1,,10.0.0.2", "[::ffff:1.2.3.4]", "fe80::1%x,10.1.1.1"} {
		f.Add(s)
	}
	trusted := prefixes(f, "10.0.0.0/8", "::1/128")
	f.Fuzz(func(t *testing.T, s string) {
		lines := strings.Split(s, "\n")
		client, err := trust.Client(lines, trusted)
		want, ok := naive(lines, trusted)
		require.Equal(t, ok, err == nil, "%v", err)
		if err != nil {
			return
		}
		require.Equal(t, want, client.String())
		require.True(t, client.IsValid())
		require.False(t, client.Addr().Is4In6())
		require.Empty(t, client.Addr().Zone())
		// What is written before it changes nothing where it is not trusted.
		if !trusted.Contains(client.Addr()) {
			again, err := trust.Client(append([]string{"6.6.6.6, rubbish"}, lines...), trusted)
			require.NoError(t, err)
			require.Equal(t, client, again)
		}
		_, err = netip.ParseAddrPort(client.String())
		require.NoError(t, err)
	})
}

func BenchmarkClient(b *testing.B) {
	trusted, lines := prefixes(b, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"), []string{"6.6.6.6, 1.2.3.4:5678, 10.0.0.1"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Client(lines, trusted); err != nil {
			b.Fatal(err)
		}
	}
}
