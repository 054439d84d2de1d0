package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Framer marks the packets on a byte stream. A Framer is stateless, and used by many goroutines at once.
type Framer interface {
	// Append appends packet to dst, marked, and returns the longer slice. A packet that the framer can't express
	// is refused with an error, and dst is returned as it was.
	Append(dst, packet []byte) ([]byte, error)
	// Next looks for a packet at the start of buf. size is how many bytes of buf it takes with its marks, 0 while
	// buf doesn't hold all of it. packet is a part of buf. A packet of more than limit bytes gives a
	// *TooLargeError as soon as that can be known, before its bytes have arrived.
	Next(buf []byte, limit int) (packet []byte, size int, err error)
}

// ErrBadLength is returned for a length field of a width that there is no framer for.
var ErrBadLength = errors.New("length field must have 1, 2 or 4 bytes")

type lengthFramer struct {
	width int
	order binary.ByteOrder
}

// Length returns the framer that puts a length field of width bytes (1, 2 or 4) in the given order before each
// packet; the length does not count the field itself. Another width gives ErrBadLength.
func Length(width int, order binary.ByteOrder) (Framer, error) {
	if width != 1 && width != 2 && width != 4 {
		return nil, fmt.Errorf("framer: width %d: %w", width, ErrBadLength)
	}
	if order == nil {
		order = binary.BigEndian
	}
	return lengthFramer{width: width, order: order}, nil
}

// Default returns the framer used where none was chosen: 4 bytes of length, big-endian, before each packet.
func Default() Framer { return lengthFramer{width: 4, order: binary.BigEndian} }

func (f lengthFramer) Append(dst, packet []byte) ([]byte, error) {
	switch n := len(packet); f.width {
	case 1:
		if n > math.MaxUint8 {
			return dst, &TooLargeError{Size: uint64(n), Limit: math.MaxUint8}
		}
		dst = append(dst, byte(n))
	case 2:
		if n > math.MaxUint16 {
			return dst, &TooLargeError{Size: uint64(n), Limit: math.MaxUint16}
		}
		dst = append(dst, 0, 0)
		f.order.PutUint16(dst[len(dst)-2:], uint16(n))
	default:
		if uint64(n) > math.MaxUint32 {
			return dst, &TooLargeError{Size: uint64(n), Limit: math.MaxInt32}
		}
		dst = append(dst, 0, 0, 0, 0)
		f.order.PutUint32(dst[len(dst)-4:], uint32(n))
	}
	return append(dst, packet...), nil
}

func (f lengthFramer) Next(buf []byte, limit int) ([]byte, int, error) {
	if len(buf) < f.width {
		return nil, 0, nil
	}
	var n uint64
	switch f.width {
	case 1:
		n = uint64(buf[0])
	case 2:
		n = uint64(f.order.Uint16(buf))
	default:
		n = uint64(f.order.Uint32(buf))
	}
	return cut(buf, f.width, n, limit)
}

// cut returns the n bytes behind a header of buf.
func cut(buf []byte, header int, n uint64, limit int) ([]byte, int, error) {
	if n > uint64(limit) {
		return nil, 0, &TooLargeError{Size: n, Limit: limit}
	}
	size := header + int(n)
	if len(buf) < size {
		return nil, 0, nil
	}
	return buf[header:size:size], size, nil
}

type uvarintFramer struct{}

// Uvarint returns the framer that puts the length before each packet as an unsigned varint (encoding/binary), as
// protocol buffers' delimited streams do.
func Uvarint() Framer { return uvarintFramer{} }

func (uvarintFramer) Append(dst, packet []byte) ([]byte, error) {
	return append(binary.AppendUvarint(dst, uint64(len(packet))), packet...), nil
}

func (uvarintFramer) Next(buf []byte, limit int) ([]byte, int, error) {
	n, header := binary.Uvarint(buf)
	if header < 0 || header == 0 && len(buf) >= binary.MaxVarintLen64 {
		return nil, 0, fmt.Errorf("framer: length is no varint of 64 bits: % x", buf[:binary.MaxVarintLen64])
	}
	if header == 0 {
		return nil, 0, nil
	}
	return cut(buf, header, n, limit)
}

type lineFramer struct{}

// Line returns the framer for lines of text: a packet ends at "\n", and one "\r" before that belongs to the mark, as
// telnet and netcat send it. A packet that holds "\n" or ends in "\r" can't be expressed and is refused.
func Line() Framer { return lineFramer{} }

func (lineFramer) Append(dst, packet []byte) ([]byte, error) {
	if i := bytes.IndexByte(packet, '\n'); i >= 0 {
		return dst, fmt.Errorf("framer: a line can't hold the line feed at byte %d", i)
	}
	if bytes.HasSuffix(packet, []byte{'\r'}) {
		return dst, errors.New("framer: a line can't end in a carriage return")
	}
	return append(append(dst, packet...), '\n'), nil
}

func (lineFramer) Next(buf []byte, limit int) ([]byte, int, error) {
	end := bytes.IndexByte(buf, '\n')
	if end < 0 {
		// A carriage return at the end may still turn out to be half of the mark.
		return nil, 0, CheckSize(len(bytes.TrimSuffix(buf, []byte{'\r'})), limit)
	}
	line := bytes.TrimSuffix(buf[:end:end], []byte{'\r'})
	if err := CheckSize(len(line), limit); err != nil {
		return nil, 0, err
	}
	return line, end + 1, nil
}

type rawFramer struct{}

// Raw returns the framer that marks nothing: packets are the chunks that reads return, and where one ends is lost.
// Links refuse it.
func Raw() Framer { return rawFramer{} }

// IsRaw reports whether f keeps no packet boundaries.
func IsRaw(f Framer) bool { _, raw := f.(rawFramer); return raw }

func (rawFramer) Append(dst, packet []byte) ([]byte, error) { return append(dst, packet...), nil }

func (rawFramer) Next(buf []byte, limit int) ([]byte, int, error) {
	n := min(len(buf), limit)
	return buf[:n:n], n, nil
}
