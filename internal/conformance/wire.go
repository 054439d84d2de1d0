// Package conformance holds the one suite that every transport runs, on both sides: a real server or client against a
// peer that speaks by hand-made bytes. It is for tests only.
package conformance

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The opcodes of RFC 6455, section 11.8. The first two are the types of packets, and None is the type of packets on
// transports without any.
const (
	None   = 0
	Text   = 1
	Binary = 2
	Bye    = 8
	Ping   = 9
	Pong   = 10
)

// Farewell is a WebSocket close frame, as Peer.Read reports it.
type Farewell struct {
	Code   int
	Reason string
}

func (f *Farewell) Error() string { return fmt.Sprintf("close frame %d %q", f.Code, f.Reason) }

// Wire is the bytes of a transport, made and read by hand.
type Wire interface {
	// Packet returns the bytes of one packet.
	Packet(kind int, data []byte) []byte
	// Announce returns the bytes that begin a packet of size bytes.
	Announce(size uint64) []byte
	// Read returns the next packet. io.EOF is an end without a code, *Farewell a close frame.
	Read(r *bufio.Reader) (kind int, data []byte, err error)
	// Goodbye returns the bytes by which a peer ends the connection in order, nil: the end of its stream does.
	Goodbye() []byte
}

// streamWire has a length of 4 bytes, big-endian, before each packet.
type streamWire struct{}

func (w streamWire) Packet(_ int, data []byte) []byte {
	return append(w.Announce(uint64(len(data))), data...)
}

func (streamWire) Announce(size uint64) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(min(size, 1<<32-1)))
}

func (streamWire) Read(r *bufio.Reader) (int, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	data, err := readAll(r, uint64(binary.BigEndian.Uint32(head[:])))
	return None, data, err
}

func (streamWire) Goodbye() []byte { return nil }

func readAll(r io.Reader, size uint64) ([]byte, error) {
	if size > 32<<20 {
		return nil, fmt.Errorf("a packet of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("in a packet of %d bytes: %w", size, err)
	}
	return data, nil
}

// wsWire is RFC 6455, section 5.2. A client masks what it sends, a server doesn't.
type wsWire struct{ client bool }

var mask = [4]byte{0xA5, 0x00, 0xFF, 0x3C}

func (w wsWire) Packet(kind int, data []byte) []byte {
	if kind == None {
		kind = Binary
	}
	return w.frame(0x80|byte(kind), data)
}

func (w wsWire) Announce(size uint64) []byte { return w.head(0x80|Binary, size) }

func (w wsWire) Goodbye() []byte { return w.frame(0x80|Bye, closeFrame(1000, "")) }

// frame returns one frame whose first byte is first: the FIN bit, the RSV bits and the opcode.
func (w wsWire) frame(first byte, data []byte) []byte {
	b := w.head(first, uint64(len(data)))
	at := len(b)
	b = append(b, data...)
	if w.client {
		for i := range data {
			b[at+i] ^= mask[i%4]
		}
	}
	return b
}

func (w wsWire) head(first byte, size uint64) []byte {
	b := []byte{first, 0}
	switch {
	case size <= 125:
		b[1] = byte(size)
	case size <= 1<<16-1:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, size)
	}
	if w.client {
		b[1] |= 0x80
		b = append(b, mask[:]...)
	}
	return b
}

// Read puts fragments together.
func (w wsWire) Read(r *bufio.Reader) (int, []byte, error) {
	kind, whole := None, []byte(nil)
	for {
		first, data, err := w.readFrame(r)
		opcode := int(first & 0x0F)
		switch {
		case err != nil:
			return None, nil, err
		case first&0x70 != 0:
			return None, nil, fmt.Errorf("first byte %#02x: no extension was agreed upon", first)
		case opcode == Bye:
			return None, nil, farewell(data)
		case opcode == Ping || opcode == Pong:
			return opcode, data, nil
		case (opcode == None) != (kind != None):
			return None, nil, fmt.Errorf("first byte %#02x: fragments out of order", first)
		case kind == None:
			kind = opcode
		}
		if whole = append(whole, data...); first&0x80 != 0 {
			return kind, whole, nil
		}
	}
}

func (w wsWire) readFrame(r *bufio.Reader) (byte, []byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if masked := head[1]&0x80 != 0; masked == w.client {
		return 0, nil, fmt.Errorf("second byte %#02x: clients mask, servers don't", head[1])
	}
	size, err := w.size(r, head[1]&0x7F)
	if err != nil {
		return 0, nil, err
	}
	var key [4]byte
	if !w.client {
		if _, err := io.ReadFull(r, key[:]); err != nil {
			return 0, nil, err
		}
	}
	data, err := readAll(r, size)
	for i := range data {
		data[i] ^= key[i%4]
	}
	return head[0], data, err
}

func (wsWire) size(r io.Reader, short byte) (uint64, error) {
	var long [8]byte
	switch short {
	case 126:
		_, err := io.ReadFull(r, long[6:])
		return binary.BigEndian.Uint64(long[:]), err
	case 127:
		_, err := io.ReadFull(r, long[:])
		return binary.BigEndian.Uint64(long[:]), err
	}
	return uint64(short), nil
}

func farewell(data []byte) error {
	if len(data) < 2 {
		return &Farewell{Code: 1005}
	}
	return &Farewell{Code: int(binary.BigEndian.Uint16(data)), Reason: string(data[2:])}
}

// closeFrame returns the payload of a close frame.
func closeFrame(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}
