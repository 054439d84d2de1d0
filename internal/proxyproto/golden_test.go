package proxyproto_test

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/proxyproto"
)

const signature2 = "\r\n\r\n\x00\r\nQUIT\n"

// v2 makes a header of version 2 out of its command, its family and what follows.
func v2(command, family byte, body ...string) string {
	b := strings.Join(body, "")
	return signature2 + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(b)))) + b
}

func tlv(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

// summed puts the checksum into a header that has zeros in its place.
func summed(header string) string {
	sum := crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli))
	place := tlv(0x03, "\x00\x00\x00\x00")
	return strings.Replace(header, place, tlv(0x03, string(binary.BigEndian.AppendUint32(nil, sum))), 1)
}

const (
	local, proxy = 0x20, 0x21

	v4Body   = "\x01\x02\x03\x04\x05\x06\x07\x08\x04\xd2\x01\xbb"
	noSum    = "\x00\x00\x00\x00"
	v6Source = " \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	v6Target = " \x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"
	mapped   = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04"
	v6Body   = v6Source + v6Target + "\x04\xd2\x01\xbb"
)

var unixBody = "/player" + strings.Repeat("\x00", 101) + "/server" + strings.Repeat("\x00", 101)

func ap(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

// pires is what github.com/pires/go-proxyproto does with a header, as compared with us.
type pires int

const (
	agrees   pires = iota
	lenient        // it accepts what we refuse
	stricter       // it refuses what we accept
)

// headers are whole ones, and what is to be read from them. Where pires differs, why says whom the specification supports.
var headers = []struct {
	name, header        string
	source, destination string // "" where the client isn't named
	version             int
	bad                 bool
	pires               pires
	why                 string
}{
	// Section 2.1, from its own examples on.
	{name: "1: the example", header: "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", source: "192.168.0.1:56324", destination: "192.168.0.11:443", version: 1},
	{name: "1: the longest TCP4", header: "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", source: "255.255.255.255:65535", destination: "255.255.255.255:65535", version: 1},
	{name: "1: the shortest TCP4", header: "PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", source: "1.2.3.4:0", destination: "5.6.7.8:0", version: 1},
	{name: "1: TCP6", header: "PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n", source: "[2001:db8::1]:1234", destination: "[2001:db8::2]:443", version: 1},
	{name: "1: the longest TCP6", header: "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", source: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", destination: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", version: 1},
	{name: "1: the shortest TCP6", header: "PROXY TCP6 :: :: 1 2\r\n", source: "[::]:1", destination: "[::]:2", version: 1},
	{name: "1: upper case digits", header: "PROXY TCP6 2001:DB8::A 2001:DB8::B 1 2\r\n", source: "[2001:db8::a]:1", destination: "[2001:db8::b]:2", version: 1},
	{name: "1: mapped", header: "PROXY TCP6 ::ffff:1.2.3.4 ::ffff:5.6.7.8 1 2\r\n", source: "1.2.3.4:1", destination: "5.6.7.8:2", version: 1},
	{name: "1: UNKNOWN", header: "PROXY UNKNOWN\r\n", version: 1},
	{name: "1: UNKNOWN with a space", header: "PROXY UNKNOWN \r\n", version: 1},
	{name: "1: the longest UNKNOWN", header: "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", version: 1},
	{name: "1: UNKNOWN with rubbish", header: "PROXY UNKNOWN \x00 rubbish  1.2.3.4\r\r\r\n", version: 1},

	{name: "1: two spaces", header: "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: two spaces before the protocol", header: "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: a space at the end", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", bad: true},
	{name: "1: a tab", header: "PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n", bad: true},
	{name: "1: one word too many", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", bad: true},
	{name: "1: one word too few", header: "PROXY TCP4 1.2.3.4 5.6.7.8 12345678\r\n", bad: true},
	{name: "1: protocol in lower case", header: "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: UDP4", header: "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: TCP5", header: "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: TCP44", header: "PROXY TCP44 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: UNKNOWNS", header: "PROXY UNKNOWNS\r\n", bad: true},
	{name: "1: v6 as TCP4", header: "PROXY TCP4 ::1 ::1 1 2\r\n", bad: true},
	{name: "1: mapped as TCP4", header: "PROXY TCP4 ::ffff:1.2.3.4 ::ffff:5.6.7.8 1 2\r\n", bad: true},
	{name: "1: v4 as TCP6", header: "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: families differ", header: "PROXY TCP4 1.2.3.4 ::1 1 2\r\n", bad: true},
	{name: "1: leading zero in an address", header: "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: leading zero in a port", header: "PROXY TCP4 1.2.3.4 5.6.7.8 080 2\r\n", bad: true},
	{name: "1: leading zero in the other port", header: "PROXY TCP4 1.2.3.4 5.6.7.8 80 00\r\n", bad: true},
	{name: "1: port too high", header: "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", bad: true},
	{name: "1: other port too high", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", bad: true},
	{name: "1: negative port", header: "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n", bad: true},
	{name: "1: signed port", header: "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", bad: true},
	{name: "1: port in words", header: "PROXY TCP4 1.2.3.4 5.6.7.8 http 2\r\n", bad: true},
	{name: "1: no port", header: "PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n", bad: true},
	{name: "1: octet too large", header: "PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: three octets", header: "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: brackets", header: "PROXY TCP6 [::1] [::1] 1 2\r\n", bad: true},
	{name: "1: a zone", header: "PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n", bad: true},
	{name: "1: a zone in the destination", header: "PROXY TCP6 fe80::1 fe80::2%lo 1 2\r\n", bad: true},
	{name: "1: a name", header: "PROXY TCP4 localhost 5.6.7.8 1 2\r\n", bad: true},
	{name: "1: LF alone", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", bad: true},
	{name: "1: LF alone behind UNKNOWN", header: "PROXY UNKNOWN\n", bad: true},
	{name: "1: CR alone, then more", header: "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r3\r\n", bad: true},
	{name: "1: an LF within", header: "PROXY UNKNOWN a\nb\r\n", bad: true},
	{name: "1: 108 bytes", header: "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", bad: true},
	{name: "1: no end", header: "PROXY UNKNOWN " + strings.Repeat("x", 200), bad: true},
	{name: "1: no end of TCP4", header: "PROXY TCP4 " + strings.Repeat("1", 200), bad: true},
	{name: "1: nothing but spaces", header: "PROXY TCP4 " + strings.Repeat(" ", 200), bad: true},

	// Section 2.2.
	{name: "2: TCP4", header: v2(proxy, 0x11, v4Body), source: "1.2.3.4:1234", destination: "5.6.7.8:443", version: 2},
	{name: "2: UDP4", header: v2(proxy, 0x12, v4Body), source: "1.2.3.4:1234", destination: "5.6.7.8:443", version: 2},
	{name: "2: TCP6", header: v2(proxy, 0x21, v6Body), source: "[2001:db8::1]:1234", destination: "[2001:db8::2]:443", version: 2},
	{name: "2: UDP6", header: v2(proxy, 0x22, v6Body), source: "[2001:db8::1]:1234", destination: "[2001:db8::2]:443", version: 2},
	{name: "2: mapped", header: v2(proxy, 0x21, mapped, v6Target, "\x00\x01\x00\x02"), source: "1.2.3.4:1", destination: "[2001:db8::2]:2", version: 2},
	{name: "2: UNIX stream", header: v2(proxy, 0x31, unixBody), version: 2},
	{name: "2: UNIX datagram", header: v2(proxy, 0x32, unixBody), version: 2},
	{name: "2: LOCAL", header: v2(local, 0x00), version: 2},
	{name: "2: LOCAL with addresses", header: v2(local, 0x11, v4Body), version: 2},
	{name: "2: LOCAL with less than addresses", header: v2(local, 0x21, "xyz"), version: 2},
	{name: "2: LOCAL with TLVs", header: v2(local, 0x00, tlv(0x04, "pad")), version: 2},
	{name: "2: LOCAL of a family that there isn't", header: v2(local, 0x44, "xyz"), version: 2, pires: stricter,
		why: `"discard the protocol block including the family which is ignored"`},
	{name: "2: UNSPEC", header: v2(proxy, 0x00), version: 2, pires: stricter,
		why: `"free to accept the connection anyway and use the real endpoint addresses or to reject it", and UNKNOWN should be accepted`},
	{name: "2: UNSPEC with something", header: v2(proxy, 0x00, "whatever"), version: 2, pires: stricter, why: "as before"},
	{name: "2: TLVs", header: v2(proxy, 0x11, v4Body, tlv(0x01, "h2"), tlv(0x02, "game.example"), tlv(0x04, ""), tlv(0xee, "x")), source: "1.2.3.4:1234", destination: "5.6.7.8:443", version: 2},
	{name: "2: as long as may be", header: v2(proxy, 0x11, v4Body, tlv(0x04, strings.Repeat("x", proxyproto.MaxLength-12-3))), source: "1.2.3.4:1234", destination: "5.6.7.8:443", version: 2},
	{name: "2: checksum", header: summed(v2(proxy, 0x11, v4Body, tlv(0x03, noSum))), source: "1.2.3.4:1234", destination: "5.6.7.8:443", version: 2},
	{name: "2: checksum among TLVs", header: summed(v2(proxy, 0x21, v6Body, tlv(0x04, "abc"), tlv(0x03, noSum), tlv(0x05, "id"))), source: "[2001:db8::1]:1234", destination: "[2001:db8::2]:443", version: 2},
	{name: "2: checksum of UNIX", header: summed(v2(proxy, 0x31, unixBody, tlv(0x03, noSum))), version: 2},

	{name: "2: version 1", header: v2(0x11, 0x11, v4Body), bad: true},
	{name: "2: version 3", header: v2(0x31, 0x11, v4Body), bad: true},
	{name: "2: another command", header: v2(0x22, 0x11, v4Body), bad: true},
	{name: "2: the last command", header: v2(0x2f, 0x11, v4Body), bad: true},
	{name: "2: another family", header: v2(proxy, 0x41, v4Body), bad: true},
	{name: "2: another protocol", header: v2(proxy, 0x13, v4Body), bad: true},
	{name: "2: INET without a protocol", header: v2(proxy, 0x10, v4Body), bad: true},
	{name: "2: STREAM without a family", header: v2(proxy, 0x01, v4Body), bad: true},
	{name: "2: TCP4 a byte short", header: v2(proxy, 0x11, v4Body[:11]), bad: true},
	{name: "2: TCP6 with addresses of TCP4", header: v2(proxy, 0x21, v4Body), bad: true},
	{name: "2: UNIX a byte short", header: v2(proxy, 0x31, unixBody[:215]), bad: true},
	{name: "2: too long", header: v2(proxy, 0x11, v4Body, strings.Repeat("x", proxyproto.MaxLength-11)), bad: true},
	{name: "2: LOCAL too long", header: v2(local, 0x00, strings.Repeat("x", proxyproto.MaxLength+1)), bad: true},
	{name: "2: half a TLV's head", header: v2(proxy, 0x11, v4Body, "\x04\x00"), bad: true, pires: lenient, why: "it hands TLVs on unparsed; the length is the header's, so it doesn't match the protocol"},
	{name: "2: a TLV longer than the header", header: v2(proxy, 0x11, v4Body, "\x04\x00\x05abcd"), bad: true, pires: lenient, why: "as before"},
	{name: "2: wrong checksum", header: v2(proxy, 0x11, v4Body, tlv(0x03, "\x01\x02\x03\x04")), bad: true, pires: lenient, why: "section 2.2.3: a receiver that knows of checksums must verify"},
	{name: "2: checksum of zero", header: v2(proxy, 0x11, v4Body, tlv(0x03, noSum)), bad: true, pires: lenient, why: "as before"},
	{name: "2: checksum of another address", header: strings.Replace(summed(v2(proxy, 0x11, v4Body, tlv(0x03, noSum))), "\x01\x02\x03\x04", "\x06\x06\x06\x06", 1), bad: true, pires: lenient, why: "as before"},
	{name: "2: checksum of 3 bytes", header: v2(proxy, 0x11, v4Body, tlv(0x03, "\x00\x00\x00")), bad: true, pires: lenient, why: `"a 32-bit number"`},
	{name: "2: two checksums", header: summed(v2(proxy, 0x11, v4Body, tlv(0x03, noSum), tlv(0x03, noSum))), bad: true, pires: lenient, why: "it can't be told which is zero while the other one is computed"},
}

// TestGoldenBytes holds the bytes that the tests are made with. The checksum was computed bit by bit, by another program.
func TestGoldenBytes(t *testing.T) {
	for golden, header := range map[string]string{
		// As HAProxy writes it: PROXY, TCP4, 172.19.0.1:42578 to 172.19.0.3:80.
		"0d0a0d0a000d0a515549540a2111000cac130001ac130003a6520050":               v2(proxy, 0x11, "\xac\x13\x00\x01\xac\x13\x00\x03\xa6\x52\x00\x50"),
		"0d0a0d0a000d0a515549540a20000000":                                       v2(local, 0x00),
		"0d0a0d0a000d0a515549540a21110013010203040506070804d201bb030004e3449bb0": summed(v2(proxy, 0x11, v4Body, tlv(0x03, noSum))),
	} {
		require.Equal(t, golden, hex.EncodeToString([]byte(header)))
	}
}
