package proxyproto

import (
	"bytes"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// A version 1 header (section 2.1) is one line of US-ASCII:
//
//	PROXY TCP4 source destination port port\r\n     each address 4 decimal numbers
//	PROXY TCP6 source destination port port\r\n     each address an IPv6 address without a zone
//	PROXY UNKNOWN[ anything]\r\n
//
// with exactly one space between its words, and without leading zeros.
const (
	maxLine = 107 // bytes, with the line's end
	words1  = 6
)

// read1 reads the rest of a line that begins with b.
func read1(r io.Reader, b []byte) (h Header, err error) {
	known := func(protocol string) bool { return begins(b[len(signature1):], protocol) }
	if !known("TCP4 ") && !known("TCP6 ") && !known("UNKNOWN") { // tells it as soon as possible
		return h, malformed("protocol in %q", b)
	}
	end := bytes.IndexByte(b, '\n')
	for ; end < 0; end = bytes.IndexByte(b, '\n') {
		n := missing(b)
		if len(b)+n > maxLine {
			return h, malformed("no end of line in %d bytes", maxLine)
		}
		if b, err = some(r, b, n); err != nil {
			return h, err
		}
	}
	line, ok := strings.CutSuffix(string(b), "\r\n")
	if !ok || end != len(b)-1 {
		return h, malformed("a line that ends without CR: %q", b)
	}
	return parse1(line)
}

// missing returns how many bytes have to come at least, after those in b, until the line's end. No more may be read at once.
func missing(b []byte) int {
	last := b[len(b)-1]
	if last == '\r' {
		return 1
	}
	n := len("\r\n")
	if b[len(signature1)] == 'U' {
		return n
	}
	for _, c := range b {
		if c == ' ' {
			n -= len(" x")
		}
	}
	n += (words1 - 1) * len(" x")
	if last == ' ' {
		n++
	}
	return max(n, len("\r\n"))
}

func parse1(line string) (h Header, err error) {
	h.Version = 1
	words := strings.Split(line, " ")
	family := words[1]
	if family == "UNKNOWN" { // "the receiver must ignore anything presented before the CRLF is found"
		return h, nil
	}
	if family != "TCP4" && family != "TCP6" {
		return h, malformed("protocol %q", family)
	}
	if len(words) != words1 {
		return h, malformed("%d words, want %d: %q", len(words), words1, line)
	}
	if h.Source, err = address1(family, words[2], words[4]); err != nil {
		return h, err
	}
	h.Destination, err = address1(family, words[3], words[5])
	return h, err
}

func address1(family, address, port string) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Is4() != (family == "TCP4") || ip.Zone() != "" {
		return netip.AddrPort{}, malformed("%s address %q", family, address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, malformed("port %q", port)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
