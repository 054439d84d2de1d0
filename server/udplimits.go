package server

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Defaults of UDP.
const (
	DefaultUDPIdleTimeout       = 30 * time.Second
	DefaultUDPSessions          = 100_000
	DefaultUDPSessionsPerPrefix = 1024
	DefaultUDPSessionRate       = 100 // new ones per second and prefix
	DefaultUDPSessionBurst      = 200
)

// UDPLimits bound the sessions of a UDP server, since the address of a datagram can be forged: without them, a flood of datagrams from
// addresses that don't exist would fill the memory. Of each field 0 is the default, and a negative value no limit. A prefix is an IPv4 /24, or
// an IPv6 /64; loopback addresses, which nobody can forge from elsewhere, are bound by Sessions only. Datagrams for which there is no
// session, and none is allowed, are dropped and counted: see Stats.Refusals.
type UDPLimits struct {
	Sessions  int     // in all, those included that were closed within the last second; default 100,000
	PerPrefix int     // of one prefix; default 1024
	Rate      float64 // new ones per second and prefix; default 100
	Burst     int     // so many new ones of one prefix at once, where Rate allows them on average; default 200, at least 1
}

type udpOptions struct {
	idle   time.Duration
	limits UDPLimits
}

// WithUDPIdleTimeout closes a UDP session (ErrIdleTimeout) from which no datagram was received for d; up to an eighth of d may be
// added. What is sent to it doesn't count. It is how a UDP client that has left is noticed. 0 or less: the default, 30 s.
func WithUDPIdleTimeout(d time.Duration) Option {
	return func(s *Server) { s.opts.udp.idle = d }
}

// WithUDPLimits sets the limits of UDP sessions.
func WithUDPLimits(limits UDPLimits) Option {
	return func(s *Server) { s.opts.udp.limits = limits }
}

// complete returns the options with the defaults in their places. A limit of 0 or less is none then.
func (o udpOptions) complete() udpOptions {
	if o.idle <= 0 {
		o.idle = DefaultUDPIdleTimeout
	}
	l := &o.limits
	if l.Sessions == 0 {
		l.Sessions = DefaultUDPSessions
	}
	if l.PerPrefix == 0 {
		l.PerPrefix = DefaultUDPSessionsPerPrefix
	}
	if l.Rate == 0 {
		l.Rate = DefaultUDPSessionRate
	}
	if l.Burst == 0 {
		l.Burst = DefaultUDPSessionBurst
	}
	l.Burst = max(l.Burst, 1)
	return o
}

// udpPrefix is an IPv4 /24 or an IPv6 /64. The zero value stands for addresses that no limit of prefixes holds for.
type udpPrefix struct {
	bits uint64
	v6   bool
}

func prefixOf(ip netip.Addr) udpPrefix {
	switch {
	case !ip.IsValid() || ip.IsLoopback():
		return udpPrefix{}
	case ip.Is4():
		b := ip.As4()
		return udpPrefix{bits: uint64(binary.BigEndian.Uint32(b[:])>>8) | 1<<32} // never 0
	}
	b := ip.As16()
	return udpPrefix{bits: binary.BigEndian.Uint64(b[:]), v6: true}
}

// udpDoor decides which sources get a session. It belongs to its transport, and is guarded as that is.
type udpDoor struct {
	limits   UDPLimits
	prefixes map[udpPrefix]*udpSource
	checked  time.Duration // when those that say nothing any more were looked for
}

// udpSource is what is known of a prefix.
type udpSource struct {
	sessions int32
	tokens   float32 // new sessions that it may have at once
	at       time.Duration
}

// enter counts a session from ip, where there are so many already, or says why there can't be one.
func (d *udpDoor) enter(ip netip.Addr, sessions int, now time.Duration) (Refusal, bool) {
	limit := d.limits.Sessions
	if limit > 0 && sessions >= limit {
		return RefusedUDPSessions, false
	}
	prefix := prefixOf(ip)
	if prefix == (udpPrefix{}) || d.limits.PerPrefix < 0 && d.limits.Rate < 0 {
		return "", true
	}
	source := d.prefixes[prefix]
	if source == nil {
		if limit > 0 && len(d.prefixes) >= limit { // most of them of sessions that are over
			return RefusedUDPSessions, false
		}
		source = &udpSource{tokens: float32(d.limits.Burst), at: now}
		d.prefixes[prefix] = source
	}
	d.refill(source, now)
	switch {
	case d.limits.PerPrefix > 0 && int(source.sessions) >= d.limits.PerPrefix:
		return RefusedUDPPrefix, false
	case d.limits.Rate > 0 && source.tokens < 1:
		return RefusedUDPRate, false
	}
	source.tokens--
	source.sessions++
	return "", true
}

func (d *udpDoor) refill(s *udpSource, now time.Duration) {
	s.tokens = min(float32(d.limits.Burst), max(0, s.tokens)+float32(d.limits.Rate*(now-s.at).Seconds()))
	s.at = now
}

// leave is for each session that has entered.
func (d *udpDoor) leave(ip netip.Addr) {
	if source := d.prefixes[prefixOf(ip)]; source != nil {
		source.sessions--
	}
}

// clean forgets prefixes that are as good as new. It looks for them once a second at the most.
func (d *udpDoor) clean(now time.Duration) {
	if now-d.checked < time.Second {
		return
	}
	d.checked = now
	for prefix, source := range d.prefixes {
		if source.sessions > 0 {
			continue
		}
		if d.refill(source, now); d.limits.Rate <= 0 || source.tokens >= float32(d.limits.Burst) {
			delete(d.prefixes, prefix)
		}
	}
}
