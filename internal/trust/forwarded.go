package trust

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ForwardedFor is the header field to which each HTTP proxy appends the address of who connected to it, so that the right-most
// entries are the ones that were written last, and those to the left are what somebody has claimed. It has no standard; RFC 7239,
// section 7.4, describes it.
const ForwardedFor = "X-Forwarded-For"

// Errors of Client.
var (
	ErrNotForwarded = errors.New("no " + ForwardedFor)
	ErrMalformed    = errors.New("malformed " + ForwardedFor)
)

// Client returns who stands behind the trusted proxies, after lines, all values of the field in the order in which they came: from the
// right, the first entry that isn't trusted; the left-most one where all are. The port is 0 where the entry has none. What is
// to the left of it is not looked at; an entry to its right that is no IP address is ErrMalformed, an empty one included.
// ErrNotForwarded: there is no entry. It is a pure function, and allocates nothing unless it fails.
func Client(lines []string, trusted Prefixes) (client netip.AddrPort, err error) {
	err = ErrNotForwarded
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var entry string
			comma := strings.LastIndexByte(rest, ',')
			more, entry = comma >= 0, rest[comma+1:]
			rest = rest[:max(comma, 0)]
			if client, err = parseEntry(strings.Trim(entry, " \t")); err != nil || !trusted.Contains(client.Addr()) {
				return client, err
			}
		}
	}
	return client, err
}

// parseEntry takes an IPv4 address, bare or with a port, or an IPv6 address, bare, or in brackets with or without a port.
func parseEntry(s string) (netip.AddrPort, error) {
	var addr netip.Addr
	var err error
	switch bare := strings.Count(s, ":") != 1; {
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		if addr, err = netip.ParseAddr(s[1 : len(s)-1]); err == nil && addr.Is4() {
			err = ErrMalformed
		}
	case bare && !strings.HasPrefix(s, "["):
		addr, err = netip.ParseAddr(s)
	default:
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(s)
		if addr = ap.Addr(); err == nil && addr.Zone() == "" {
			return netip.AddrPortFrom(addr.Unmap(), ap.Port()), nil
		}
	}
	if err != nil || addr.Zone() != "" { // a zone means something on its own machine only
		return netip.AddrPort{}, fmt.Errorf("%w: entry %.64q", ErrMalformed, s)
	}
	return netip.AddrPortFrom(addr.Unmap(), 0), nil
}
