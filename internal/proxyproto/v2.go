package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/netip"
)

// A version 2 header (section 2.2):
//
//	0   12  signature
//	12   1  version (2) in the high four bits, command in the low ones
//	13   1  address family in the high four bits, transport protocol in the low ones
//	14   2  how many bytes follow, big-endian
//	16      the addresses: source, destination, source port, destination port; then TLVs: type (1), length (2), value
const (
	headBytes = 16
	unixBytes = 2 * 108

	// MaxLength is how many bytes of addresses and TLVs a header may have. A client's certificate, the largest of what proxies
	// send, has 1 to 2 KiB.
	MaxLength = 4 << 10
)

// Commands, with the version.
const (
	commandLocal = 0x20
	commandProxy = 0x21
)

// Families and protocols, all that there are.
const (
	unspec       = 0x00
	tcp4         = 0x11
	udp4         = 0x12
	tcp6         = 0x21
	udp6         = 0x22
	unixStream   = 0x31
	unixDatagram = 0x32
)

const (
	typeCRC32C = 0x03 // section 2.2.3
	tlvHead    = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// read2 reads the rest of a header whose signature is b.
func read2(r io.Reader, b []byte) (h Header, err error) {
	if b, err = more(r, b, headBytes-len(b)); err != nil {
		return h, err
	}
	command, family, length := b[12], b[13], int(binary.BigEndian.Uint16(b[14:]))
	if command != commandLocal && command != commandProxy {
		return h, malformed("version and command %#02x", command)
	}
	if length > MaxLength {
		return h, malformed("%d bytes of addresses and TLVs, at most %d are accepted", length, MaxLength)
	}
	if b, err = more(r, b, length); err != nil {
		return h, err
	}
	h = Header{Version: 2, Local: command == commandLocal}
	if h.Local { // "discard the protocol block including the family which is ignored"
		return h, nil
	}
	return h, h.parse2(family, b)
}

// parse2 takes the addresses from b, which is the whole header.
func (h *Header) parse2(family byte, b []byte) error {
	var ipBytes, addresses int
	switch family {
	case unspec: // "the receiver should ignore address information", whose length it can't know
		return nil
	case tcp4, udp4:
		ipBytes, addresses = 4, 2*4+2*2
	case tcp6, udp6:
		ipBytes, addresses = 16, 2*16+2*2
	case unixStream, unixDatagram:
		addresses = unixBytes
	default:
		return malformed("family and protocol %#02x", family)
	}
	body := b[headBytes:]
	if len(body) < addresses {
		return malformed("%d bytes for addresses of family %#02x, want %d", len(body), family, addresses)
	}
	if err := checkTLVs(b, headBytes+addresses); err != nil || ipBytes == 0 {
		return err
	}
	ports := body[2*ipBytes:]
	h.Source = address2(body[:ipBytes], ports)
	h.Destination = address2(body[ipBytes:2*ipBytes], ports[2:])
	return nil
}

func address2(ip, port []byte) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port))
}

// checkTLVs checks that what is in header behind at are whole TLVs, and the checksum where there is one.
func checkTLVs(header []byte, at int) error {
	checked := false
	for at < len(header) {
		rest := header[at:]
		if len(rest) < tlvHead || len(rest)-tlvHead < int(binary.BigEndian.Uint16(rest[1:])) {
			return malformed("a TLV of type %#02x cut short", rest[0])
		}
		value := rest[tlvHead : tlvHead+int(binary.BigEndian.Uint16(rest[1:]))]
		if rest[0] == typeCRC32C {
			if checked || !checksum(header, value) {
				return malformed("wrong CRC32C")
			}
			checked = true
		}
		at += tlvHead + len(value)
	}
	return nil
}

// checksum reports whether value, which is part of header, is the checksum of the header with zeros in its place. It leaves the zeros.
func checksum(header, value []byte) bool {
	if len(value) != crc32.Size {
		return false
	}
	want := binary.BigEndian.Uint32(value)
	clear(value)
	return crc32.Checksum(header, castagnoli) == want
}
