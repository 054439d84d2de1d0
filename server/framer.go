package server

import (
	"encoding/binary"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// LengthFramer returns a framer that puts a length field of width bytes (1, 2 or 4), in order (nil: big-endian), before
// each packet. Another width gives nil, which WithFramer refuses.
func LengthFramer(width int, order binary.ByteOrder) Framer {
	f, err := frame.Length(width, order)
	if err != nil {
		return nil
	}
	return f
}

// UvarintFramer returns a framer that puts the length before each packet as an unsigned varint, as encoding/binary has it.
func UvarintFramer() Framer { return frame.Uvarint() }

// LineFramer returns a framer for lines of text that end in "\n" or "\r\n".
func LineFramer() Framer { return frame.Line() }

// RawFramer returns the framer that keeps no packet boundaries: packets are chunks as reads return them.
func RawFramer() Framer { return frame.Raw() }
