package trust_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/trust"
)

// prefixes parses prefixes, which have to be good.
func prefixes(t testing.TB, all ...string) (p trust.Prefixes) {
	t.Helper()
	for _, s := range all {
		var err error
		p, err = p.Add(netip.MustParsePrefix(s))
		require.NoError(t, err)
	}
	return p
}

func TestPrefixes(t *testing.T) {
	p := prefixes(t, "10.1.2.3/8", "::ffff:192.168.7.0/120", "2001:db8::/32", "fe80::/10", "127.0.0.1/32", "::ffff:0:0/90")
	for addr, want := range map[string]bool{
		"10.0.0.0":                true,
		"10.255.255.255":          true,
		"11.0.0.0":                false,
		"::ffff:10.9.9.9":         true,
		"::ffff:a09:909":          true,
		"::10.9.9.9":              false, // IPv4-compatible is another address
		"192.168.7.255":           true,
		"192.168.8.0":             false,
		"::ffff:192.168.7.1":      true,
		"2001:db8:ffff::1":        true,
		"2001:db9::1":             false,
		"fe80::1":                 true,
		"fe80::1%eth0":            true,
		"127.0.0.1":               true,
		"127.0.0.2":               false,
		"::1":                     false,
		"1.2.3.4":                 false, // ::ffff:0:0/90 speaks of IPv6 addresses alone
		"::ffff:192.168.7.1%eth0": true,
	} {
		assert.Equal(t, want, p.Contains(netip.MustParseAddr(addr)), addr)
	}
	assert.False(t, trust.Prefixes(nil).Contains(netip.MustParseAddr("127.0.0.1")), "nobody, without any")
	assert.False(t, p.Contains(netip.Addr{}))
}

func TestPrefixesOfPeers(t *testing.T) {
	p := prefixes(t, "10.0.0.0/8", "0.0.0.0/0", "::/0")
	assert.True(t, p.Trusts(&net.TCPAddr{IP: net.ParseIP("10.1.1.1")}), "with an IP of 16 bytes, as net makes them")
	assert.True(t, p.Trusts(&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "lo"}))
	assert.False(t, p.Trusts(&net.UnixAddr{Name: "@", Net: "unix"}))
	assert.False(t, p.Trusts(&net.TCPAddr{}), "no address")
	assert.False(t, p.Trusts(nil))
}

func TestPrefixesThatAreNone(t *testing.T) {
	p, err := prefixes(t, "10.0.0.0/8").Add(netip.Prefix{})
	assert.Error(t, err)
	assert.Len(t, p, 1)
	_, err = p.Add(netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33))
	assert.Error(t, err)
}

func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		proxy, client string
		want          bool
	}{
		{"10.0.0.1", "1.2.3.4", true}, {"10.0.0.1", "127.0.0.1", false}, {"10.0.0.1", "::1", false}, {"2001:db8::1", "127.5.5.5", false},
		{"127.0.0.1", "127.0.0.2", true}, {"::1", "127.0.0.1", true}, {"::ffff:127.0.0.1", "::1", true}, {"127.0.0.1", "1.2.3.4", true},
	} {
		assert.Equal(t, tt.want, trust.Places(netip.MustParseAddr(tt.proxy), netip.MustParseAddr(tt.client)), "%s names %s", tt.proxy, tt.client)
	}
}
