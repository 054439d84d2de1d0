package server_test

import (
	"crypto/tls"
	be "encoding/binary"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// The peers of the table: two proxies that are trusted and one that isn't, and proxies that are trusted and only spoken of.
const (
	theProxy   = "127.0.0.2"
	mappedOnly = "127.0.3.1" // trusted by a v4-mapped prefix
	stranger   = "127.0.0.1"
	theProxy6  = "::1"
)

var trustedProxies = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("::ffff:127.0.3.0/120"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("2001:db8:10::/48"),
}

// headerV2 makes a PROXY header of version 2 that names source, of the family that its address has.
func headerV2(source string) string {
	ap := netip.MustParseAddrPort(source)
	family, to := byte(0x21), netip.MustParseAddr("2001:db8::2")
	if ap.Addr().Is4() {
		family, to = 0x11, netip.MustParseAddr("192.0.2.1")
	}
	body := append(ap.Addr().AsSlice(), to.AsSlice()...)
	body = be.BigEndian.AppendUint16(body, ap.Port())
	body = be.BigEndian.AppendUint16(body, 443)
	return rawV2(0x21, family, string(body))
}

func rawV2(command, family byte, body string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family}) + string(be.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

const (
	headerV1  = "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
	headerV16 = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"
)

// outcomes of a connection, beside the address that it gets.
const (
	own     = "its own"          // the peer's address and port
	refused = "refused"          // closed, and counted as RefusedProxy
	status  = "400"              // so is the request
	badHTTP = "400 of net/http"  // a request that is none
	bad     = "a bad packet"     // the connection opens with its own address, and ends of what it sends
	badTLS  = "no TLS"           // closed, and counted as RefusedHandshake
	opened  = ":the peer's port" // behind an IP
)

// spoofs are who sends what, and whom the server takes him for.
var spoofs = []struct {
	name   string
	on     string // networks
	host   string // "": trusts trustedProxies; "nobody": trusts nobody; "v6": listens on ::1 and trusts it; "v6 stranger": only that
	from   string
	header string // what comes first, before TLS
	fields string // of the HTTP request, with line ends
	want   string // an address, or one of the outcomes
}{
	// Nobody is trusted unless an option says so.
	{"default, nothing", "tcp tls ws wss", "nobody", stranger, "", "", own},
	{"default, v1", "tcp", "nobody", stranger, headerV1, "", bad},
	{"default, v2", "tcp", "nobody", theProxy, headerV2("203.0.113.7:4711"), "", bad},
	{"default, v1", "ws", "nobody", theProxy, headerV1, "", badHTTP},
	{"default, X-Forwarded-For", "ws wss", "nobody", theProxy, "", "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"default, rubbish in X-Forwarded-For", "ws", "nobody", theProxy, "", "X-Forwarded-For: rubbish\r\n", own},

	// Strangers are not believed, whatever they send.
	{"stranger, nothing", "tcp tls ws wss", "", stranger, "", "", own},
	{"stranger, v1", "tcp", "", stranger, headerV1, "", bad},
	{"stranger, v1 of TCP6", "tcp", "", stranger, headerV16, "", bad},
	{"stranger, UNKNOWN", "tcp", "", stranger, "PROXY UNKNOWN\r\n", "", bad},
	{"stranger, v2", "tcp", "", stranger, headerV2("203.0.113.7:4711"), "", bad},
	{"stranger, LOCAL", "tcp", "", stranger, rawV2(0x20, 0, ""), "", bad},
	{"stranger, v1", "ws", "", stranger, headerV1, "", badHTTP},
	{"stranger, v2", "ws", "", stranger, headerV2("203.0.113.7:4711"), "", badHTTP},
	{"stranger, v1", "tls wss", "", stranger, headerV1, "", badTLS},
	{"stranger, v1 inside TLS", "tls", "", stranger, insideTLS + headerV1, "", bad},
	{"stranger, v1 inside TLS", "wss", "", stranger, insideTLS + headerV1, "", badHTTP},
	{"stranger, v1 that names a trusted proxy, and X-Forwarded-For", "ws", "", stranger, "PROXY TCP4 10.0.0.1 192.0.2.1 1 2\r\n", "X-Forwarded-For: 203.0.113.7\r\n", badHTTP},
	{"stranger, X-Forwarded-For", "ws wss", "", stranger, "", "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"stranger, X-Forwarded-For that ends in a trusted proxy", "ws", "", stranger, "", "X-Forwarded-For: 203.0.113.7, 127.0.0.2\r\n", own},
	{"stranger, two X-Forwarded-For", "ws", "", stranger, "", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 127.0.0.2\r\n", own},
	{"stranger, rubbish in X-Forwarded-For", "ws", "", stranger, "", "X-Forwarded-For: ,,\r\n", own},
	{"stranger, X-Real-IP and Forwarded", "ws wss", "", stranger, "", "X-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n", own},
	{"stranger in the next prefix", "tcp", "", "127.0.4.1", headerV1, "", bad},
	{"stranger with the next address", "ws", "", "127.0.0.3", "", "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"stranger of v6, nothing", "tcp ws", "v6 stranger", theProxy6, "", "", own},
	{"stranger of v6, v1", "tcp", "v6 stranger", theProxy6, headerV16, "", bad},
	{"stranger of v6, X-Forwarded-For", "ws wss", "v6 stranger", theProxy6, "", "X-Forwarded-For: 203.0.113.7\r\n", own},

	// Trusted proxies are believed, and have to say it.
	{"proxy, v1", "tcp tls ws wss", "", theProxy, headerV1, "", "203.0.113.7:4711"},
	{"proxy, v1 of TCP6", "tcp tls ws wss", "", theProxy, headerV16, "", "[2001:db8::7]:4711"},
	{"proxy, v1 of TCP6 with a mapped address", "tcp ws", "", theProxy, "PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 443\r\n", "", "203.0.113.7:4711"},
	{"proxy, v2", "tcp tls ws wss", "", theProxy, headerV2("203.0.113.7:4711"), "", "203.0.113.7:4711"},
	{"proxy, v2 of TCP6", "tcp tls ws wss", "", theProxy, headerV2("[2001:db8::7]:4711"), "", "[2001:db8::7]:4711"},
	{"proxy, v2 with a mapped address", "tcp ws", "", theProxy, headerV2("[::ffff:203.0.113.7]:4711"), "", "203.0.113.7:4711"},
	{"proxy, v1 that names itself", "tcp", "", theProxy, "PROXY TCP4 127.0.0.2 127.0.0.2 4711 443\r\n", "", "127.0.0.2:4711"},
	{"proxy, v1 that names a trusted proxy", "tcp ws", "", theProxy, "PROXY TCP4 10.0.0.9 192.0.2.1 4711 443\r\n", "", "10.0.0.9:4711"},
	{"proxy of a mapped prefix, v1", "tcp ws", "", mappedOnly, headerV1, "", "203.0.113.7:4711"},
	{"proxy of v6, v1", "tcp tls ws wss", "v6", theProxy6, headerV1, "", "203.0.113.7:4711"},
	{"proxy of v6, v2 of TCP6", "tcp ws", "v6", theProxy6, headerV2("[2001:db8::7]:4711"), "", "[2001:db8::7]:4711"},
	{"mapped proxy, v1", "tcp ws", "mapped", theProxy, headerV1, "", "203.0.113.7:4711"},
	{"mapped proxy, X-Forwarded-For", "ws", "mapped", theProxy, "", "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"mapped stranger, v1", "tcp", "mapped", stranger, headerV1, "", bad},
	{"mapped stranger, X-Forwarded-For", "ws", "mapped", stranger, "", "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"proxy, nothing", "tcp tls", "", theProxy, "", "", refused},
	{"proxy, nothing", "ws wss", "", theProxy, "", "", status},
	{"proxy of v6, nothing", "tcp", "v6", theProxy6, "", "", refused},
	{"proxy of a mapped prefix, nothing", "tcp", "", mappedOnly, "", "", refused},
	{"mapped proxy, nothing", "tcp", "mapped", theProxy, "", "", refused},

	// The proxy's own connections keep its address.
	{"proxy, LOCAL", "tcp tls ws wss", "", theProxy, rawV2(0x20, 0, ""), "", own},
	{"proxy, LOCAL with an address", "tcp ws", "", theProxy, strings.Replace(headerV2("203.0.113.7:4711"), "QUIT\n\x21", "QUIT\n\x20", 1), "", own},
	{"proxy, UNKNOWN", "tcp tls ws wss", "", theProxy, "PROXY UNKNOWN\r\n", "", own},
	{"proxy, UNKNOWN with addresses", "tcp ws", "", theProxy, "PROXY UNKNOWN 203.0.113.7 192.0.2.1 4711 443\r\n", "", own},
	{"proxy, UNSPEC", "tcp ws", "", theProxy, rawV2(0x21, 0, ""), "", own},
	{"proxy, UNIX", "tcp ws", "", theProxy, rawV2(0x21, 0x31, strings.Repeat("\x00", 216)), "", own},
	{"proxy, LOCAL and X-Forwarded-For", "ws wss", "", theProxy, rawV2(0x20, 0, ""), "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"proxy, UNKNOWN and X-Forwarded-For", "ws wss", "", theProxy, "PROXY UNKNOWN\r\n", "X-Forwarded-For: 203.0.113.7\r\n", own},
	{"proxy, UNKNOWN and rubbish in X-Forwarded-For", "ws", "", theProxy, "PROXY UNKNOWN\r\n", "X-Forwarded-For: rubbish\r\n", own},

	// Headers that are none.
	{"proxy, v1 with two spaces", "tcp tls ws wss", "", theProxy, "PROXY  TCP4 203.0.113.7 192.0.2.1 4711 443\r\n", "", refused},
	{"proxy, v1 with LF alone", "tcp ws", "", theProxy, strings.ReplaceAll(headerV1, "\r", ""), "", refused},
	{"proxy, v1 with a wrong family", "tcp ws", "", theProxy, "PROXY TCP6 203.0.113.7 192.0.2.1 4711 443\r\n", "", refused},
	{"proxy, v1 with a port too high", "tcp ws", "", theProxy, "PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n", "", refused},
	{"proxy, v1 in lower case", "tcp", "", theProxy, strings.ToLower(headerV1), "", refused},
	{"proxy, v1 in lower case", "ws", "", theProxy, strings.ToLower(headerV1), "", badHTTP},
	{"proxy, v1 without end", "tcp ws", "", theProxy, "PROXY UNKNOWN " + strings.Repeat("x", 107), "", refused},
	{"proxy, v1 behind a line's end", "tcp", "", theProxy, "\r\n" + headerV1, "", refused},
	{"proxy, v2 of version 3", "tcp ws", "", theProxy, rawV2(0x31, 0, ""), "", refused},
	{"proxy, v2 of another command", "tcp ws", "", theProxy, rawV2(0x22, 0, ""), "", refused},
	{"proxy, v2 of another family", "tcp ws", "", theProxy, rawV2(0x21, 0x41, ""), "", refused},
	{"proxy, v2 too short", "tcp wss", "", theProxy, rawV2(0x21, 0x11, "\xcb\x00\x71\x07"), "", refused},
	{"proxy, v2 too long", "tcp tls ws", "", theProxy, rawV2(0x21, 0x11, strings.Repeat("\x00", 5000)), "", refused},
	{"proxy, v2 with a wrong checksum", "tcp ws", "", theProxy, rawV2(0x21, 0x11, "\xcb\x00\x71\x07\xc0\x00\x02\x01\x12\x67\x01\xbb\x03\x00\x04sums"), "", refused},
	{"proxy, v1 cut short", "tcp tls ws wss", "", theProxy, cutShort + headerV1[:20], "", refused},
	{"proxy, v2 cut short", "tcp tls ws wss", "", theProxy, cutShort + headerV2("203.0.113.7:4711")[:20], "", refused},
	{"proxy, a signature cut short", "tcp tls ws wss", "", theProxy, cutShort + "\r\n\r\n\x00", "", refused},
	{"proxy that only connects", "tcp tls ws wss", "", theProxy, cutShort, "", refused},
	{"proxy, v1 inside TLS", "tls", "", theProxy, insideTLS + headerV1, "", refused},
	{"proxy, v1 inside TLS", "wss", "", theProxy, insideTLS + headerV1, "", badHTTP},
	{"proxy, two of v1", "tcp", "", theProxy, headerV1 + "PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n", "", "203.0.113.7:4711, then " + bad},
	{"proxy, v2 and v1", "tcp", "", theProxy, headerV2("203.0.113.7:4711") + headerV1, "", "203.0.113.7:4711, then " + bad},
	{"proxy, two of v1", "ws", "", theProxy, headerV1 + headerV1, "", badHTTP},
	{"proxy, LOCAL and v1", "ws", "", theProxy, rawV2(0x20, 0, "") + headerV1, "", badHTTP},

	// X-Forwarded-For, of trusted proxies.
	{"proxy, X-Forwarded-For", "ws wss", "", theProxy, "", "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, with a port", "ws", "", theProxy, "", "X-Forwarded-For: 203.0.113.7:4711\r\n", "203.0.113.7:4711"},
	{"proxy, v6", "ws wss", "", theProxy, "", "X-Forwarded-For: 2001:db8::7\r\n", "[2001:db8::7]" + opened},
	{"proxy, v6 in brackets with a port", "ws", "", theProxy, "", "X-Forwarded-For: [2001:db8::7]:4711\r\n", "[2001:db8::7]:4711"},
	{"proxy, mapped", "ws", "", theProxy, "", "X-Forwarded-For: ::ffff:203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy of v6, X-Forwarded-For", "ws wss", "v6", theProxy6, "", "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy of a mapped prefix, X-Forwarded-For", "ws", "", mappedOnly, "", "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, a claim to the left", "ws wss", "", theProxy, "", "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, a claim in a line of its own", "ws", "", theProxy, "", "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, rubbish to the left", "ws", "", theProxy, "", "X-Forwarded-For: <script>, , 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, a trusted one to the left", "ws", "", theProxy, "", "X-Forwarded-For: 127.0.0.2, 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, a trusted one to the right", "ws", "", theProxy, "", "X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.1.1.1\r\n", "203.0.113.7" + opened},
	{"proxy, trusted ones in lines of their own", "ws", "", theProxy, "", "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\nX-Forwarded-For: 10.1.1.1:80\r\nX-Forwarded-For: [2001:db8:10::1]:80\r\n", "203.0.113.7" + opened},
	{"proxy, all trusted", "ws", "", theProxy, "", "X-Forwarded-For: 10.1.1.1, 10.1.1.2\r\n", "10.1.1.1" + opened},
	{"proxy, in lower case", "ws", "", theProxy, "", "x-forwarded-for: 203.0.113.7\r\n", "203.0.113.7" + opened},
	{"proxy, rubbish", "ws wss", "", theProxy, "", "X-Forwarded-For: unknown\r\n", status},
	{"proxy, empty", "ws", "", theProxy, "", "X-Forwarded-For: \r\n", status},
	{"proxy, rubbish to the right", "ws", "", theProxy, "", "X-Forwarded-For: 203.0.113.7, unknown\r\n", status},
	{"proxy, rubbish to the left of a trusted one", "ws", "", theProxy, "", "X-Forwarded-For: 203.0.113.7, unknown, 10.1.1.1\r\n", status},
	{"proxy, a comma at the end", "ws", "", theProxy, "", "X-Forwarded-For: 203.0.113.7,\r\n", status},
	{"proxy, octal", "ws", "", theProxy, "", "X-Forwarded-For: 0313.0.0161.7\r\n", status},
	{"proxy, a zone", "ws", "", theProxy, "", "X-Forwarded-For: fe80::7%eth0\r\n", status},
	{"proxy, X-Real-IP alone", "ws wss", "", theProxy, "", "X-Real-IP: 203.0.113.7\r\n", status},
	{"proxy, Forwarded alone", "ws", "", theProxy, "", "Forwarded: for=203.0.113.7\r\n", status},
	{"proxy, X_Forwarded_For alone", "ws", "", theProxy, "", "X_Forwarded_For: 203.0.113.7\r\n", status},
	{"proxy, X-Real-IP beside X-Forwarded-For", "ws", "", theProxy, "", "X-Real-IP: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7" + opened},

	// Both.
	{"proxy, v1 and X-Forwarded-For", "ws wss", "", theProxy, headerV1, "X-Forwarded-For: 198.51.100.1\r\n", "203.0.113.7:4711"},
	{"proxy, v1 and rubbish in X-Forwarded-For", "ws", "", theProxy, headerV1, "X-Forwarded-For: rubbish\r\n", "203.0.113.7:4711"},
	{"proxy, v1 of a trusted proxy and X-Forwarded-For", "ws wss", "", theProxy, "PROXY TCP4 10.0.0.9 192.0.2.1 4711 443\r\n", "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", "203.0.113.7:4711"},
	{"proxy, v2 of a trusted proxy and X-Forwarded-For", "ws", "", theProxy, headerV2("[2001:db8:10::9]:4711"), "X-Forwarded-For: 203.0.113.7:1\r\n", "203.0.113.7:1"},
	{"proxy, v1 of a trusted proxy and rubbish in X-Forwarded-For", "ws", "", theProxy, "PROXY TCP4 10.0.0.9 192.0.2.1 4711 443\r\n", "X-Forwarded-For: rubbish\r\n", status},
	{"proxy, v1 that names the stranger, and X-Forwarded-For", "ws", "", theProxy, "PROXY TCP4 127.0.0.1 192.0.2.1 4711 443\r\n", "X-Forwarded-For: 203.0.113.7\r\n", "127.0.0.1:4711"},
}

// Words before a header.
const (
	cutShort  = "cut short:"  // the peer ends the stream behind it
	insideTLS = "inside TLS:" // it comes after the handshake
)

// listenMapped returns a listener whose peers have v4-mapped addresses. nil: there is none here.
var listenMapped func(t testing.TB) net.Listener

func TestSpoofing(t *testing.T) {
	cert, key, pool := certificate(t)
	for engine, option := range engines() {
		for _, network := range []string{"tcp", "tls", "ws", "wss"} {
			if engine == "loops" && (network == "tls" || network == "wss") {
				continue // which they don't serve
			}
			t.Run(network+" "+engine, func(t *testing.T) {
				s := &spoofer{network: network, loops: engine == "loops", options: []server.Option{option}, hosts: map[string]*host{}}
				if network == "tls" || network == "wss" {
					s.tls = &tls.Config{RootCAs: pool, ServerName: "game.test"}
					s.options = append(s.options, server.WithTLS(cert, key))
				}
				for _, tt := range spoofs {
					if !slices.Contains(strings.Fields(tt.on), network) {
						continue
					}
					t.Run(tt.name, func(t *testing.T) {
						key := tt.host
						if tt.want == badHTTP {
							key = tt.name // which net/http counts late: it shall disturb nobody else's counters
						}
						s.play(t, s.host(t, key, tt.host), tt.from, tt.header, tt.fields, tt.want)
					})
				}
				s.stop(t)
			})
		}
	}
}

// spoofer plays the rows of one network.
type spoofer struct {
	network string
	loops   bool
	options []server.Option
	tls     *tls.Config
	hosts   map[string]*host
}

func (s *spoofer) conformance() string {
	if strings.HasPrefix(s.network, "ws") {
		return ws
	}
	return tcp
}

func (s *spoofer) kind() int {
	if s.conformance() == ws {
		return binary
	}
	return none
}

// host returns the server under key, a new one if there is none, as name says. It goes on until stop.
func (s *spoofer) host(t *testing.T, key, name string) *host {
	if h := s.hosts[key]; h != nil {
		return h
	}
	listen, trusted := "127.0.0.1:0", trustedProxies
	switch name {
	case "nobody":
		trusted = nil
	case "v6":
		listen, trusted = "[::1]:0", append(trusted, netip.MustParsePrefix("::1/128"))
	case "v6 stranger":
		listen = "[::1]:0"
	}
	options := s.options
	if trusted != nil {
		options = append(slices.Clone(options), server.WithTrustedProxies(trusted...))
	}
	h := newHost(s.conformance(), options...)
	listener := func() (net.Listener, error) { return net.Listen("tcp", listen) }
	if name == "mapped" {
		if listenMapped == nil {
			t.Skip("there are no such listeners here")
		}
		listener = func() (net.Listener, error) { return listenMapped(t), nil }
	}
	ln, err := listener()
	require.NoError(t, err)
	h.addr, h.ended = ln.Addr().String(), make(chan error, 1)
	go func() { h.ended <- h.Serve(ln) }()
	s.hosts[key] = h
	return h
}

func (s *spoofer) stop(t *testing.T) {
	for _, h := range s.hosts {
		h.Shutdown()
		assert.NoError(t, await(t, h.ended, "end"))
	}
}

// play connects from an address, sends what there is to send, and looks what became of it.
func (s *spoofer) play(t *testing.T, h *host, from, header, fields, want string) {
	before := h.Stats().Refusals
	conn := dialFrom(t, h.addr, from)
	header, short := strings.CutPrefix(header, cutShort)
	header, inside := strings.CutPrefix(header, insideTLS)
	if !inside {
		send(t, conn, header)
	}
	if short {
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	}
	peer := conn
	if s.tls != nil {
		peer = tls.Client(conn, s.tls)
	}
	if inside && want != refused {
		send(t, peer, header)
	}
	switch want {
	case refused:
		s.expectEnd(t, peer, header == "" && !short || inside)
		s.expectRefusal(t, h, before, server.RefusedProxy)
	case badTLS:
		s.expectEnd(t, peer, true)
		s.expectRefusal(t, h, before, server.RefusedHandshake)
	case status, badHTTP:
		resp := conformance.NewPeer(t, peer, ws).Upgrade("/", splitFields(fields)...)
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
		if want == status {
			s.expectRefusal(t, h, before, server.RefusedProxy)
		} else {
			assert.Equal(t, before[server.RefusedProxy], h.Stats().Refusals[server.RefusedProxy])
		}
	default:
		s.expectOpen(t, h, peer, header, fields, want)
		assert.Equal(t, before, h.Stats().Refusals)
	}
	assert.Empty(t, h.opened, "nothing else opened")
}

func dialFrom(t *testing.T, addr, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := d.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func send(t *testing.T, conn net.Conn, bytes string) {
	t.Helper()
	_, err := io.WriteString(conn, bytes)
	require.NoError(t, err)
}

// splitFields returns the lines of fields.
func splitFields(fields string) []string {
	return strings.FieldsFunc(fields, func(c rune) bool { return c == '\r' || c == '\n' })
}

// expectEnd holds that the connection ends without a byte. speak: after the peer has said something.
func (s *spoofer) expectEnd(t *testing.T, peer net.Conn, speak bool) {
	t.Helper()
	if secure, ok := peer.(*tls.Conn); ok {
		if speak {
			assert.Error(t, secure.Handshake())
			return
		}
		peer = secure.NetConn()
	} else if speak {
		send(t, peer, "\x00\x00\x00\x05hello")
	}
	p, err := io.ReadAll(peer)
	assert.Empty(t, p)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded) // it may be a reset
}

func (s *spoofer) expectRefusal(t *testing.T, h *host, before map[server.Refusal]uint64, why server.Refusal) {
	t.Helper()
	want := maps.Clone(before)
	if want == nil {
		want = map[server.Refusal]uint64{}
	}
	want[why]++
	if !assert.Eventually(t, func() bool { return maps.Equal(want, h.Stats().Refusals) }, patience, tick) {
		t.Logf("refusals: want %v, are %v", want, h.Stats().Refusals)
	}
}

// expectOpen holds that the connection opens with an address, and ends well, or badly.
func (s *spoofer) expectOpen(t *testing.T, h *host, peer net.Conn, header, fields, want string) {
	unnamed := s.conformance() == tcp && header != "" && want == own // whose first byte was read before
	address, ends := strings.CutSuffix(want, ", then "+bad)
	local := peer.LocalAddr().(*net.TCPAddr)
	switch ip, found := strings.CutSuffix(address, opened); {
	case address == own || address == bad:
		address, ends = local.String(), address == bad
	case found:
		address = ip + ":" + strconv.Itoa(local.Port)
	}
	if !ends {
		p := conformance.NewPeer(t, peer, s.conformance())
		if s.conformance() == ws {
			require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade("/", splitFields(fields)...).StatusCode)
		}
		p.Write(s.kind(), []byte("hello"))
		assert.Equal(t, "hello", h.next(t).data)
	}
	conn := await(t, h.opened, "opened event")
	s.assertAddress(t, conn, netip.MustParseAddrPort(address), unnamed)
	if ends {
		_, _ = io.Copy(io.Discard, peer) // until its end, or a reset
	}
	require.NoError(t, peer.Close())
	err := h.end(t)
	if ends {
		assert.Error(t, err.(error))
	}
	require.Eventually(t, func() bool { return h.GetOnlineCount() == 0 }, patience, tick, "its ID is free")
}

func (s *spoofer) assertAddress(t *testing.T, conn *server.Conn, want netip.AddrPort, unnamed bool) {
	t.Helper()
	assert.IsType(t, &net.TCPAddr{}, conn.RemoteAddr())
	assert.Equal(t, want.String(), conn.RemoteAddr().String())
	assert.Equal(t, want.String(), conn.GetID())
	assert.Equal(t, want.Addr().String(), conn.GetIP())
	if s.conformance() == ws {
		assert.Equal(t, want.String(), conn.GetWebsocketRequest().RemoteAddr)
	}
	assert.Equal(t, s.loops && !unnamed, conn.Loop() != nil, "a socket whose header was read is as good as any")
	_, secure := conn.TLS()
	assert.Equal(t, s.tls != nil, secure)
}
