package gateway

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"

	"github.com/minotaur-gateway/gateway/server"
)

// TrustedGateways lets gateways link from these addresses only; with WithSecret they have to prove the secret as well. With
// neither, gateways on the same machine are trusted: loopback addresses and Unix sockets. A v4-mapped prefix means the IPv4 addresses;
// an invalid one is ErrBadOption.
func TrustedGateways(prefixes ...netip.Prefix) BackendOption {
	return func(b *Backend) {
		trusted, err := b.trusted.Add(prefixes...)
		if b.trusted = trusted; err != nil {
			b.refuse(fmt.Errorf("%w: TrustedGateways: %w", ErrBadOption, err))
		}
	}
}

// TrustedCertificates lets gateways link only over mutual TLS, with a certificate that was verified (server.WithTLSConfig with
// tls.VerifyClientCertIfGiven or tls.RequireAndVerifyClientCert) and that has one of names among its subject alternative names (RFC 5280, section
// 4.2.1.6): DNS names, IP addresses and URIs such as "spiffe://example.org/gateway", each as a whole. What TrustedGateways and WithSecret ask for is asked
// for as well. The gateway's end is client.WithTLS, which checks the backend's names. No name at all is ErrBadOption.
func TrustedCertificates(names ...string) BackendOption {
	return func(b *Backend) {
		if b.certified = append(b.certified, names...); len(names) == 0 || slices.Contains(names, "") {
			b.refuse(fmt.Errorf("%w: names of trusted certificates: %q", ErrBadOption, names))
		}
	}
}

// trusts tells whether the gateway at the other end of conn may link, before any proof.
func (b *Backend) trusts(conn *server.Conn) error {
	if err := b.trustsAddress(conn); err != nil || len(b.certified) == 0 {
		return err
	}
	state, ok := conn.TLS()
	if !ok || len(state.VerifiedChains) == 0 {
		return fmt.Errorf("%w: gateway at %s has no verified certificate", ErrUntrusted, conn.RemoteAddr())
	}
	names := alternativeNames(state.VerifiedChains[0][0])
	if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(b.certified, name) }) {
		return fmt.Errorf("%w: gateway at %s: none of its certificate's names %q is among the TrustedCertificates", ErrUntrusted, conn.RemoteAddr(), names)
	}
	return nil
}

func alternativeNames(cert *x509.Certificate) []string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	return names
}

func (b *Backend) trustsAddress(conn *server.Conn) error {
	addr := conn.RemoteAddr()
	if addr == nil {
		return fmt.Errorf("%w: gateway without an address", ErrUntrusted)
	}
	ap, err := netip.ParseAddrPort(addr.String())
	local := err != nil || ap.Addr().Unmap().IsLoopback() // what has no IP address is a Unix socket, or in memory
	switch {
	case len(b.trusted) > 0:
		if err == nil && b.trusted.Contains(ap.Addr()) {
			return nil
		}
		return fmt.Errorf("%w: gateway at %s is not among the TrustedGateways", ErrUntrusted, addr)
	case b.secrets == nil && len(b.certified) == 0 && !local:
		return fmt.Errorf("%w: gateway at %s: only this machine's are, without WithSecret, TrustedGateways or TrustedCertificates", ErrUntrusted, addr)
	}
	return nil
}
