package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// door counts who is in. A connection arrives when it is accepted and departs at its end, whatever becomes of it in between. It enters
// when the client's address is known, which may be later, and leaves before it departs.
type door struct {
	newcomers *rate.Limiter // nil: no limit; static after New
	present   atomic.Int64

	mu        sync.Mutex // guards the rest, which is empty where there are no such limits
	addresses map[netip.Addr]int
	prefixes  map[netip.Addr]int // by the first address of each
}

// arrive counts a connection that was just accepted, unless it is one too many.
func (s *Server) arrive() Refusal {
	most := int64(s.opts.limits.connections)
	for n := s.door.present.Load(); ; n = s.door.present.Load() {
		if most > 0 && n >= most {
			return RefusedTotal
		}
		if s.door.present.CompareAndSwap(n, n+1) {
			break
		}
	}
	if l := s.door.newcomers; l != nil && !l.Allow() {
		s.depart()
		return RefusedRate
	}
	return ""
}

func (s *Server) depart() { s.door.present.Add(-1) }

// enter counts a connection that has arrived for its client's address, unless it is one too many. The address must be the same in
// leave.
func (s *Server) enter(addr net.Addr) Refusal {
	l := &s.opts.limits
	ip, counts := l.address(addr)
	if !counts {
		return ""
	}
	d := &s.door
	d.mu.Lock()
	defer d.mu.Unlock()
	switch prefix := networkOf(ip); {
	case l.perAddress > 0 && d.addresses[ip] >= l.perAddress:
		return RefusedAddress
	case l.perPrefix > 0 && d.prefixes[prefix] >= l.perPrefix:
		return RefusedPrefix
	default:
		if d.addresses == nil {
			d.addresses, d.prefixes = map[netip.Addr]int{}, map[netip.Addr]int{}
		}
		d.addresses[ip]++
		d.prefixes[prefix]++
		return ""
	}
}

func (s *Server) leave(addr net.Addr) {
	ip, counts := s.opts.limits.address(addr)
	if !counts {
		return
	}
	d := &s.door
	d.mu.Lock()
	defer d.mu.Unlock()
	countDown(d.addresses, ip)
	countDown(d.prefixes, networkOf(ip))
}

func countDown(m map[netip.Addr]int, key netip.Addr) {
	if m[key]--; m[key] == 0 {
		delete(m, key)
	}
}

// come is arrive and enter.
func (s *Server) come(addr net.Addr) Refusal {
	if r := s.arrive(); r != "" {
		return r
	}
	r := s.enter(addr)
	if r != "" {
		s.depart()
	}
	return r
}

// goAway undoes come.
func (s *Server) goAway(addr net.Addr) {
	s.leave(addr)
	s.depart()
}

// address returns the IP address that addr counts for, and false where it counts for none.
func (l *limits) address(addr net.Addr) (netip.Addr, bool) {
	if l.perAddress == 0 && l.perPrefix == 0 {
		return netip.Addr{}, false
	}
	ip := ipOf(addr)
	return ip, ip.IsValid()
}

// ipOf returns the IP address in addr, without a zone and never IPv4 in IPv6; the zero Addr where there is none.
func ipOf(addr net.Addr) netip.Addr {
	var ap netip.AddrPort
	switch a := addr.(type) {
	case nil:
	case compactAddr:
		ap = netip.AddrPort(a)
	case interface{ AddrPort() netip.AddrPort }: // the standard library's
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(addr.String())
	}
	return ap.Addr().WithZone("").Unmap()
}

// networkOf returns the first address of the prefix that ip is in: /24 of IPv4, /64 of IPv6.
func networkOf(ip netip.Addr) netip.Addr {
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	p, _ := ip.Prefix(bits) // of which no address that is valid, and has no zone, has too few
	return p.Addr()
}

// For layers: Exempt ends the limits on the connection's address for it: it has shown that it is a link. It is for the goroutine that
// reads the connection.
func (c *Conn) Exempt() {
	if !c.c.exempt && c.c.carried == nil {
		c.c.exempt = true
		c.c.srv.leave(c.c.addr)
	}
}
