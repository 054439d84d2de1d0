// Package trust decides whose word about a client's address counts, and what follows from it.
package trust

import (
	"fmt"
	"net"
	"net/netip"
)

// Prefixes are the addresses that are trusted. The zero value trusts nobody.
type Prefixes []netip.Prefix

// Add returns p and more, with v4-mapped IPv6 prefixes (::ffff:10.0.0.0/104) as what they mean (10.0.0.0/8). A prefix that is none is
// an error.
func (p Prefixes) Add(more ...netip.Prefix) (Prefixes, error) {
	for _, prefix := range more {
		if !prefix.IsValid() {
			return p, fmt.Errorf("prefix %v", prefix)
		}
		if addr, bits := prefix.Addr(), prefix.Bits(); addr.Is4In6() && bits >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), bits-96)
		}
		p = append(p, prefix.Masked())
	}
	return p, nil
}

// Contains reports whether addr is trusted, whatever its zone is. A v4-mapped IPv6 address is the IPv4 address that it stands for.
func (p Prefixes) Contains(addr netip.Addr) bool {
	addr = addr.WithZone("").Unmap()
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Trusts reports whether addr, of a peer, is an IP address that is trusted. Others, as of Unix sockets, never are.
func (p Prefixes) Trusts(addr net.Addr) bool {
	ap, ok := AddrPort(addr)
	return ok && p.Contains(ap.Addr())
}

// Places reports whether client, an address that proxy names, means the same here as it does there: a loopback address does only on the
// proxy's own machine.
func Places(proxy, client netip.Addr) bool { return !client.IsLoopback() || proxy.Unmap().IsLoopback() }

// AddrPort returns the IP address and port that addr is, unmapped, if it is one.
func AddrPort(addr net.Addr) (netip.AddrPort, bool) {
	a, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), ap.IsValid()
}
