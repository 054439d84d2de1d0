package wsframe

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Append appends a whole message, or a control frame, as a server sends it: in one frame, not masked.
func Append(dst []byte, kind int, payload []byte) []byte {
	return append(appendHeader(dst, kind, len(payload), 0), payload...)
}

// AppendMasked is Append as a client does it. mask has to come from a source that nobody can foresee (RFC 6455, section 5.3).
func AppendMasked(dst []byte, kind int, payload []byte, mask [4]byte) []byte {
	dst = append(appendHeader(dst, kind, len(payload), maskBit), mask[:]...)
	dst = append(dst, payload...)
	Mask(dst[len(dst)-len(payload):], mask)
	return dst
}

func appendHeader(dst []byte, kind, length int, mask byte) []byte {
	dst = append(dst, finBit|byte(kind))
	switch {
	case length < length16:
		return append(dst, mask|byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, mask|length16), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, mask|length64), uint64(length))
}

// ClosePayload returns what a close frame holds. A code that can't be on the wire gives an empty one; of a reason that is too
// long, whole characters are kept.
func ClosePayload(code int, reason string) []byte {
	if !ValidCode(code) {
		return nil
	}
	reason = reason[:min(len(reason), MaxControlSize-2)]
	for !utf8.ValidString(reason) && len(reason) > 0 {
		reason = reason[:len(reason)-1]
	}
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reason)), uint16(code)), reason...)
}

// Mask masks or unmasks b in place (RFC 6455, section 5.3).
func Mask(b []byte, mask [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(mask[:]))
	word |= word << 32
	for le := binary.LittleEndian; len(b) >= 64; b = b[64:] { // eight words a turn: four times as fast
		c := b[:64:64]
		le.PutUint64(c[0:8], le.Uint64(c[0:8])^word)
		le.PutUint64(c[8:16], le.Uint64(c[8:16])^word)
		le.PutUint64(c[16:24], le.Uint64(c[16:24])^word)
		le.PutUint64(c[24:32], le.Uint64(c[24:32])^word)
		le.PutUint64(c[32:40], le.Uint64(c[32:40])^word)
		le.PutUint64(c[40:48], le.Uint64(c[40:48])^word)
		le.PutUint64(c[48:56], le.Uint64(c[48:56])^word)
		le.PutUint64(c[56:64], le.Uint64(c[56:64])^word)
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= mask[i&3]
	}
}
