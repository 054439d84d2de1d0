package server

import (
	"fmt"
	"math"

	"golang.org/x/time/rate"
)

// DefaultMaxConnections is how many connections a server takes at once, unless WithMaxConnections says otherwise.
const DefaultMaxConnections = 100_000

// limits are what the options allow. A count of 0 is no limit.
type limits struct {
	connections int
	perAddress  int
	perPrefix   int
	newcomers   pace
	packets     pace // of one client, as is the next
	bytes       pace
}

// pace is so many a second, and so many at once. 0 is no limit.
type pace struct {
	perSecond float64
	burst     int
}

func (p pace) limits() bool { return p.perSecond > 0 }

// limiter returns what keeps the pace, nil where there is no limit.
func (p pace) limiter() *rate.Limiter {
	if !p.limits() {
		return nil
	}
	return rate.NewLimiter(rate.Limit(p.perSecond), p.burst)
}

// WithMaxConnections lets n connections be there at once. All that were accepted count, those too that are still in a handshake,
// wait for admission, or are gateways' links; clients behind gateways have no connection of their own. Default
// DefaultMaxConnections; 0 or less: no limit. One too many is told to try again later and closed: by HTTP status 503 before a
// WebSocket's upgrade, by close code 1013 after one, elsewhere by the end of the stream. It counts as RefusedTotal.
func WithMaxConnections(n int) Option {
	return func(s *Server) { s.opts.limits.connections = max(n, 0) }
}

// WithMaxConnectionsPerAddress lets n connections of one IP address be there at once, IPv4 in IPv6 being IPv4. It is the player's
// address as RemoteAddr tells it that counts, from when it is known. 0 or less: no limit, the default. Connections without an IP
// address, of Unix sockets for one, have no such limit, and neither has a gateway's link once its handshake is over. One too many is
// refused as by WithMaxConnections, as RefusedAddress. Many players may share an address, behind a provider's NAT or in a school.
func WithMaxConnectionsPerAddress(n int) Option {
	return func(s *Server) { s.opts.limits.perAddress = max(n, 0) }
}

// WithMaxConnectionsPerPrefix is WithMaxConnectionsPerAddress for all addresses of an IPv4 /24 or an IPv6 /64, which is what one
// household has. One too many is refused as RefusedPrefix.
func WithMaxConnectionsPerPrefix(n int) Option {
	return func(s *Server) { s.opts.limits.perPrefix = max(n, 0) }
}

// WithConnectionRate lets perSecond new connections in each second, in all, and burst of them at once after a time of fewer. 0 or less
// a second: no limit, the default; with one, burst is at least 1. One too many is refused as by WithMaxConnections, as RefusedRate.
func WithConnectionRate(perSecond float64, burst int) Option {
	return withPace("connections", perSecond, burst, func(s *Server, p pace) {
		s.opts.limits.newcomers, s.door.newcomers = p, p.limiter()
	})
}

// WithPacketRate lets each client send perSecond packets a second, and burst of them at once after a time of fewer; a WebSocket's pings
// and pongs count as packets. One that sends more is closed (1008, ErrRateLimited); over UDP, where others may have sent it, the packet is
// dropped instead. Links are exempt, and so are clients behind
// gateways, whom their gateway limits. 0 or less a second: no limit, the default; with one, burst is at least 1.
func WithPacketRate(perSecond float64, burst int) Option {
	return withPace("packets", perSecond, burst, func(s *Server, p pace) { s.opts.limits.packets = p })
}

// WithByteRate is WithPacketRate for the bytes in a client's packets. burst is at least the largest packet (WithMaxPacketSize), which
// could not be sent otherwise.
func WithByteRate(perSecond float64, burst int) Option {
	return withPace("bytes", perSecond, burst, func(s *Server, p pace) { s.opts.limits.bytes = p })
}

func withPace(of string, perSecond float64, burst int, set func(*Server, pace)) Option {
	return func(s *Server) {
		switch {
		case math.IsNaN(perSecond) || math.IsInf(perSecond, 0):
			s.opts.refuse("%v %s a second", perSecond, of)
		case perSecond <= 0:
			set(s, pace{})
		case burst < 1:
			s.opts.refuse("%v %s a second, %d at once: at least 1", perSecond, of, burst)
		default:
			set(s, pace{perSecond, burst})
		}
	}
}

// check returns what is wrong with options that were right each by itself.
func (o *options) check() error {
	if bytes := o.limits.bytes; o.err == nil && bytes.limits() && bytes.burst < o.maxPacket {
		return fmt.Errorf("%w: %d bytes at once (WithByteRate), but %d in a packet (WithMaxPacketSize)", ErrBadOption, bytes.burst, o.maxPacket)
	}
	return o.err
}
