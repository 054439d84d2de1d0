package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"

	"github.com/minotaur-gateway/gateway/internal/trust"
)

// WithTrustedProxies believes the proxies at these addresses about whom they connect for: load balancers and reverse proxies. Without
// it nobody is believed, and a header by which somebody names a client is like any other bytes. GetIP, GetID, RemoteAddr and the limits
// by address go by the client that was named then, and so does what endpoints are told.
//
// A connection from one of these addresses has to name its client within 5 s, or it is refused (RefusedProxy). On the TCP networks, and
// in Serve's listeners for them, a header of the PROXY protocol comes before everything else, TLS included
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, version 1 or 2; inside TLS only where Serve's listener ends TLS by itself). On
// NetworkWebsocket there may be an X-Forwarded-For instead: its right-most entry that isn't a trusted proxy is the client, and an
// entry to its right that is no address refuses the request (400). An entry without a port gets the port of the proxy's
// connection, so that clients of one address stay distinct. After a PROXY header X-Forwarded-For counts where the header
// names a trusted proxy. Requests by way of ServeHTTP are judged by their RemoteAddr and X-Forwarded-For. X-Real-IP and Forwarded are
// believed from nobody.
//
// A header that names no client (LOCAL, as of health checks, UNKNOWN, UNSPEC, UNIX) leaves the connection the proxy's own address, and so
// does a loopback address that another machine's proxy names: it means a program over there, and would be taken for one here. The
// connection of such a header is a client once it has sent something, within the same 5 s: a check that ends before is nobody, and isn't counted.
// Proxies must not be configured to trust what clients claim: an L7 proxy appends to X-Forwarded-For, and an L4 proxy that has no PROXY
// header to send must not be listed here for WebSockets, since its clients could send one themselves.
//
// A v4-mapped prefix means the IPv4 addresses, and IPv4 addresses are compared with IPv4 prefixes only. An invalid prefix is an error of Run
// (ErrBadOption), and so is the option on networks whose connections have no such header: UDP, Unix sockets, and WithTransport.
func WithTrustedProxies(prefixes ...netip.Prefix) Option {
	return func(s *Server) {
		trusted, err := s.opts.proxies.trusted.Add(prefixes...)
		if s.opts.proxies = (proxies{trusted, s.refuse}); err != nil {
			s.opts.refuse("WithTrustedProxies: %v", err)
		}
	}
}

// proxies are those that are believed.
type proxies struct {
	trusted trust.Prefixes
	refuse  func(r Refusal, addr net.Addr, attrs ...any) // counts a connection that is not let in, and says so
}

// over makes ln know the clients of trusted proxies, if there are such proxies. http: it is for WebSockets.
func (p *proxies) over(ln net.Listener, http bool) net.Listener {
	if len(p.trusted) == 0 {
		return ln
	}
	return newProxyListener(ln, p.trusted, http, func(addr net.Addr, err error) { p.refuse(RefusedProxy, addr, "err", err) })
}

// vetProxies returns an error where the network's connections can't say whom a proxy connects for.
func (s *Server) vetProxies() error {
	if len(s.opts.proxies.trusted) == 0 {
		return nil
	}
	if s.opts.transport != nil {
		s.opts.refuse("WithTrustedProxies and WithTransport: a transport of one's own tells addresses by RemoteAddr")
		return s.opts.err
	}
	switch s.network {
	case NetworkTcp, NetworkTcp4, NetworkTcp6, NetworkWebsocket, NetworkNone:
		return nil
	}
	s.opts.refuse("WithTrustedProxies: on network %q nobody can name a client", string(s.network))
	return s.opts.err
}

// namedConn is a connection by which a trusted proxy speaks.
type namedConn struct {
	net.Conn
	addr   net.Addr // the client's, or the proxy's own
	header bool     // there was a PROXY header
	local  bool     // which has named nobody
	rest   []byte   // what was read where there was none
}

func (c *namedConn) RemoteAddr() net.Addr { return c.addr }

func (c *namedConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// bare returns the connection that conn is but for its address: the socket, so that it is read and written as one.
func bare(conn net.Conn) net.Conn {
	if c, ok := conn.(*namedConn); ok && len(c.rest) == 0 {
		return c.Conn
	}
	return conn
}

// named returns what is known of conn, nil unless it is a trusted proxy's.
func named(conn net.Conn) *namedConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*namedConn)
	return c
}

// proxyKey is the key of a request's *namedConn in its context.
type proxyKey struct{}

// withProxy notes whose connection requests come by.
func withProxy(ctx context.Context, conn net.Conn) context.Context {
	if c := named(conn); c != nil {
		return context.WithValue(ctx, proxyKey{}, c)
	}
	return ctx
}

// speaker returns a peer's address if that is a trusted proxy's, who may make requests for others.
func (p *proxies) speaker(peer string) netip.AddrPort {
	if len(p.trusted) == 0 {
		return netip.AddrPort{}
	}
	if ap, err := netip.ParseAddrPort(peer); err == nil && p.trusted.Contains(ap.Addr()) {
		return ap
	}
	return netip.AddrPort{}
}

// client returns whom a trusted proxy makes the request for, nil where nobody but the connection tells.
func (u *upgrader) client(r *http.Request) (net.Addr, error) {
	peer := u.opts.proxies.speaker(r.RemoteAddr)
	if !peer.IsValid() {
		return nil, nil
	}
	proxy, _ := r.Context().Value(proxyKey{}).(*namedConn)
	if proxy != nil && proxy.local { // whoever is behind the proxy, it doesn't know, and so it can't vouch for what is in the request
		return nil, nil
	}
	client, err := trust.Client(r.Header.Values(trust.ForwardedFor), u.opts.proxies.trusted)
	if errors.Is(err, trust.ErrNotForwarded) && proxy != nil && proxy.header {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !trust.Places(peer.Addr(), client.Addr()) {
		return nil, nil
	}
	if client.Port() == 0 {
		client = netip.AddrPortFrom(client.Addr(), peer.Port())
	}
	return net.TCPAddrFromAddrPort(client), nil
}

// forwarded returns r as whoever a trusted proxy makes it for would have, and that client's address, nil where nothing changes. Where
// the proxy doesn't say for whom, the request is answered.
func (u *upgrader) forwarded(w http.ResponseWriter, r *http.Request) (*http.Request, net.Addr, bool) {
	client, err := u.client(r)
	if err != nil {
		u.opts.proxies.refuse(RefusedProxy, requestAddr(r.RemoteAddr), "err", err)
		http.Error(w, string(RefusedProxy), http.StatusBadRequest)
		return nil, nil, false
	}
	if client == nil {
		return r, nil, true
	}
	r = r.WithContext(r.Context()) // a copy: it is not ours
	r.RemoteAddr = client.String()
	return r, client, true
}
