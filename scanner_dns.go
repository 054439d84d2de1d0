package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

const (
	defaultDNSInterval = 10 * time.Second
	dnsTimeout         = 5 * time.Second
)

// DNSScanner finds the endpoints of one name in DNS; see NewDNSScanner.
type DNSScanner struct {
	name, target string
	connect      func(address string) *client.Client
	interval     time.Duration
	resolver     *net.Resolver
	options      []EndpointOption
}

// DNSOption configures a DNSScanner.
type DNSOption func(s *DNSScanner)

// WithDNSInterval sets how often DNS is asked. 0 or less: the default, 10 s.
func WithDNSInterval(interval time.Duration) DNSOption {
	return func(s *DNSScanner) {
		if s.interval = interval; interval <= 0 {
			s.interval = defaultDNSInterval
		}
	}
}

// WithDNSResolver asks resolver. nil: net.DefaultResolver, the default.
func WithDNSResolver(resolver *net.Resolver) DNSOption {
	return func(s *DNSScanner) {
		if resolver != nil {
			s.resolver = resolver
		}
	}
}

// WithDNSEndpointOptions gives every endpoint options; an SRV record's weight comes before them.
func WithDNSEndpointOptions(options ...EndpointOption) DNSOption {
	return func(s *DNSScanner) { s.options = append(s.options, options...) }
}

// NewDNSScanner returns a scanner for the endpoints called name that target resolves to, asked anew every interval.
// target is "host:port" (its A and AAAA records with that port), or an SRV name such as "_game._tcp.example.com" (RFC
// 2782): host, port and weight of the records of the lowest priority. connect makes the client for each "ip:port", or for
// "host:port" of an SRV record. A target that makes no sense, and a failed or empty answer, are errors of every scan, which
// change nothing.
func NewDNSScanner(name, target string, connect func(address string) *client.Client, options ...DNSOption) *DNSScanner {
	s := &DNSScanner{name: name, target: target, connect: connect, interval: defaultDNSInterval, resolver: net.DefaultResolver}
	for _, option := range options {
		if option != nil {
			option(s)
		}
	}
	return s
}

// GetInterval returns how often DNS is asked.
func (s *DNSScanner) GetInterval() time.Duration { return s.interval }

// GetEndpoints asks DNS. It blocks for 5 s at most.
func (s *DNSScanner) GetEndpoints() ([]*Endpoint, error) {
	if s.connect == nil {
		return nil, fmt.Errorf("%w: dns scanner for %q: no function to connect", ErrBadOption, s.target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dnsTimeout)
	defer cancel()
	find := s.addresses
	if strings.HasPrefix(s.target, "_") {
		find = s.services
	}
	endpoints, err := find(ctx)
	if err == nil && len(endpoints) == 0 {
		err = errors.New("no records")
	}
	if err != nil {
		return nil, fmt.Errorf("dns scanner for %q: %w", s.target, err)
	}
	return endpoints, nil
}

// addresses makes endpoints of A and AAAA records.
func (s *DNSScanner) addresses(ctx context.Context) ([]*Endpoint, error) {
	host, port, err := net.SplitHostPort(s.target)
	if err != nil {
		return nil, err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("port %q: want 1 to 65535", port)
	}
	ips, err := s.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	endpoints := make([]*Endpoint, 0, len(ips))
	for _, ip := range slices.Compact(ips) {
		endpoints = append(endpoints, NewEndpoint(s.name, s.connect(net.JoinHostPort(ip.String(), port)), s.options...))
	}
	return endpoints, nil
}

// services makes endpoints of SRV records.
func (s *DNSScanner) services(ctx context.Context) ([]*Endpoint, error) {
	_, records, err := s.resolver.LookupSRV(ctx, "", "", s.target)
	if err != nil {
		return nil, err
	}
	var endpoints []*Endpoint
	for _, record := range records {
		if record.Priority != records[0].Priority { // LookupSRV sorts by priority
			break
		}
		address := net.JoinHostPort(strings.TrimSuffix(record.Target, "."), strconv.Itoa(int(record.Port)))
		options := append([]EndpointOption{WithEndpointWeight(srvWeight(records, record))}, s.options...)
		endpoints = append(endpoints, NewEndpoint(s.name, s.connect(address), options...))
	}
	return endpoints, nil
}

// srvWeight is a record's weight; where all are 0 they are alike (RFC 2782).
func srvWeight(records []*net.SRV, record *net.SRV) float64 {
	if !slices.ContainsFunc(records, func(r *net.SRV) bool { return r.Priority == record.Priority && r.Weight > 0 }) {
		return 1
	}
	return float64(record.Weight)
}
