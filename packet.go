package gateway

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The wire between a gateway and an endpoint, all integers big-endian:
//
//	out (gateway to endpoint): identifier DE AD BE EF (4) · ipv4 (4) · port (2) · packet
//	in  (endpoint to gateway): ipv4 (4) · port (2) · cost (4) · packet
const (
	outIdentifier = 0xDEADBEEF
	headerSize    = 10 // of either kind
	keySize       = 6
	controlKey    = 0 // 0.0.0.0:0, never a client's
)

// MarshalGatewayOutPacket returns packet with the header that a gateway puts before what it sends to an endpoint. addr
// is "a.b.c.d:port"; anything else is an error that quotes it. The result is the caller's own.
func MarshalGatewayOutPacket(addr string, packet []byte) ([]byte, error) {
	key, err := parseKey(addr)
	if err != nil {
		return nil, err
	}
	data := appendOutHeader(make([]byte, 0, headerSize+len(packet)), key)
	return append(data, packet...), nil
}

// UnmarshalGatewayOutPacket takes apart what a gateway sent: whom it is from, and the packet, which aliases data. Fewer
// than 10 bytes and another identifier are errors.
func UnmarshalGatewayOutPacket(data []byte) (addr string, packet []byte, err error) {
	if len(data) < headerSize {
		return "", nil, fmt.Errorf("gateway: out packet of %d bytes: the header alone has %d", len(data), headerSize)
	}
	if id := binary.BigEndian.Uint32(data); id != outIdentifier {
		return "", nil, fmt.Errorf("gateway: out packet begins with %08X, want %08X", id, uint32(outIdentifier))
	}
	return keyString(getKey(data[4:])), data[headerSize:], nil
}

// MarshalGatewayInPacket returns packet with the header that an endpoint puts before what it sends to a gateway. addr is
// the client's, as UnmarshalGatewayOutPacket returned it; anything but "a.b.c.d:port" is an error that quotes it. Of
// currentTime, a stamp of the endpoint's choice, the low 32 bits are kept.
func MarshalGatewayInPacket(addr string, currentTime int64, packet []byte) ([]byte, error) {
	key, err := parseKey(addr)
	if err != nil {
		return nil, err
	}
	data := appendInHeader(make([]byte, 0, headerSize+len(packet)), key, uint32(currentTime))
	return append(data, packet...), nil
}

// UnmarshalGatewayInPacket takes apart what an endpoint sent: whom it is for, the endpoint's stamp (0 to 2^32-1), and
// the packet, which aliases data. Fewer than 10 bytes are an error.
func UnmarshalGatewayInPacket(data []byte) (addr string, sendTime int64, packet []byte, err error) {
	if len(data) < headerSize {
		return "", 0, nil, fmt.Errorf("gateway: in packet of %d bytes: the header alone has %d", len(data), headerSize)
	}
	return keyString(getKey(data)), int64(binary.BigEndian.Uint32(data[6:])), data[headerSize:], nil
}

// A key is the wire's name of a client: IPv4 address and port in the low 48 bits.
func makeKey(ip [4]byte, port uint16) uint64 {
	return uint64(binary.BigEndian.Uint32(ip[:]))<<16 | uint64(port)
}

func parseKey(addr string) (uint64, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, fmt.Errorf("gateway: address %q: want a.b.c.d:port: %w", addr, err)
	}
	if !ap.Addr().Is4() {
		return 0, fmt.Errorf("gateway: address %q: want a.b.c.d:port, not IPv6", addr)
	}
	return makeKey(ap.Addr().As4(), ap.Port()), nil
}

func keyString(key uint64) string {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], uint32(key>>16))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(key)).String()
}

func appendKey(dst []byte, key uint64) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(key>>16))
	return binary.BigEndian.AppendUint16(dst, uint16(key))
}

func appendOutHeader(dst []byte, key uint64) []byte {
	return appendKey(binary.BigEndian.AppendUint32(dst, outIdentifier), key)
}

func appendInHeader(dst []byte, key uint64, cost uint32) []byte {
	return binary.BigEndian.AppendUint32(appendKey(dst, key), cost)
}

// getKey reads the 6 bytes of a key.
func getKey(data []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(data))<<16 | uint64(binary.BigEndian.Uint16(data[4:]))
}
