package conformance

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// exampleCases are the bytes of RFC 6455, section 5.7, as far as a client sends them.
func exampleCases() []Case {
	return []Case{
		says("example: a masked text message", []byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), text("Hello")),
		says("example: a masked pong", []byte("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), pong("Hello")),
		fails("example: an unmasked text message", protocolError, []byte("\x81\x05\x48\x65\x6c\x6c\x6f")),
		fails("example: an unmasked ping", protocolError, []byte("\x89\x05\x48\x65\x6c\x6c\x6f")),
		fails("example: an unmasked fragment", protocolError, []byte("\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f")),
	}
}

// lengthCases are messages of the sizes at which the length field changes, and fields wider than need be (section 5.2).
func lengthCases() []Case {
	var list []Case
	for _, size := range []int{0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 1000, 32768, 65534, 65535, 65536} {
		data := letters(size)
		list = append(list,
			says(fmt.Sprintf("length: %d bytes of text", size), sent(fin|Text, data), text(data)),
			says(fmt.Sprintf("length: %d bytes of binary", size), sent(fin|Binary, string(payload(size))), blob(string(payload(size)))))
	}
	for _, field := range []struct{ width, size int }{
		{2, 0}, {2, 1}, {2, 124}, {2, 125}, {8, 0}, {8, 1}, {8, 125}, {8, 126}, {8, 127}, {8, 255}, {8, 256}, {8, 65534}, {8, 65535},
	} {
		list = append(list, fails(fmt.Sprintf("length: %d in %d bytes", field.size, field.width), protocolError,
			join(sent(fin|Text, "before"), wide(fin|Binary, field.width, letters(field.size))), text("before")))
	}
	return append(list,
		says("length: 126 in 2 bytes", wide(fin|Binary, 2, letters(126)), blob(letters(126))),
		says("length: 65536 in 8 bytes", wide(fin|Binary, 8, letters(65536)), blob(letters(65536))),
		fails("length: a fragment of 5 in 2 bytes", protocolError, wide(more|Text, 2, "Hello")),
		fails("length: a continuation of 125 in 8 bytes", protocolError, join(begun(None), wide(fin|None, 8, letters(125)))))
}

// limitCases are messages around the largest size, whole and in fragments.
func limitCases() []Case {
	half := letters(CaseLimit / 2)
	list := []Case{
		fails("limit: one byte more of text", tooBig, sent(fin|Text, letters(CaseLimit+1))),
		fails("limit: one byte more of binary", tooBig, sent(fin|Binary, letters(CaseLimit+1))),
		fails("limit: a first fragment of one byte more", tooBig, sent(more|Binary, letters(CaseLimit+1))),
		says("limit: halves", fragments(Binary, nil, half, half), blob(half+half)),
		fails("limit: halves, and one byte more", tooBig, fragments(Binary, nil, half, half+"x")),
		fails("limit: halves, and a third fragment of a byte", tooBig, fragments(Text, nil, half, half, "x")),
		says("limit: halves, and an empty third fragment", fragments(Text, nil, half, half, ""), text(half+half)),
		fails("limit: passed in a fragment that isn't the last", tooBig, join(sent(more|Text, half+half), sent(more|None, "x"))),
		says("limit: the whole of it in many fragments", fragments(Text, nil, slices.Repeat([]string{letters(1 << 10)}, 64)...),
			text(strings.Repeat(letters(1<<10), 64))),
		says("limit: a ping between fragments doesn't count", fragments(Text, sent(fin|Ping, letters(125)), half, half),
			ping(letters(125)), text(half+half)),
		says("limit: a ping behind the whole of it doesn't count", join(sent(more|Binary, half+half), sent(fin|Ping, "?"), sent(fin|None, "")),
			ping("?"), blob(half+half)),
		says("limit: each message has its own", join(sent(fin|Text, half+half), sent(fin|Binary, half+half)), text(half+half), blob(half+half)),
		fails("limit: the message before is delivered", tooBig, join(sent(fin|Text, "before"), sent(fin|Text, letters(CaseLimit+1))), text("before")),
		fails("limit: a sum of lengths that would overflow", tooBig, join(begun(None), announced(fin|None, 8, math.MaxInt64))),
		fails("limit: a continuation that is announced", tooBig, join(begun(None), announced(more|None, 8, CaseLimit))),
		fails("limit: a continuation of 2^63", protocolError, join(begun(None), announced(fin|None, 8, 1<<63))),
	}
	for _, size := range []struct {
		name string
		size uint64
		code int
	}{
		{"limit + 1", CaseLimit + 1, tooBig}, {"2^24", 1 << 24, tooBig}, {"2^31-1", 1<<31 - 1, tooBig}, {"2^31", 1 << 31, tooBig},
		{"2^32-1", 1<<32 - 1, tooBig}, {"2^32", 1 << 32, tooBig}, {"2^32+5", 1<<32 + 5, tooBig}, {"2^53", 1 << 53, tooBig},
		{"2^62", 1 << 62, tooBig}, {"2^63-1", math.MaxInt64, tooBig},
		{"2^63", 1 << 63, protocolError}, {"2^63+5", 1<<63 + 5, protocolError}, {"2^64-1", math.MaxUint64, protocolError},
	} {
		list = append(list,
			fails("limit: text of "+size.name+" is announced", size.code, announced(fin|Text, 8, size.size)),
			fails("limit: a binary fragment of "+size.name+" is announced", size.code, announced(more|Binary, 8, size.size)))
	}
	return list
}

// maskCases are about masks (section 5.3).
func maskCases() []Case {
	none, all := [4]byte{}, [4]byte{0xFF, 0xFF, 0xFF, 0xFF}
	list := []Case{
		says("mask: of zeros", keyed(fin|Text, none, "Hello"), text("Hello")),
		says("mask: of ones", keyed(fin|Text, all, "Hello"), text("Hello")),
		says("mask: another for each message", join(keyed(fin|Text, [4]byte{1, 2, 3, 4}, "Hello"), keyed(fin|Text, [4]byte{9, 8, 7, 6}, "World")),
			text("Hello"), text("World")),
		says("mask: another for each fragment", join(keyed(more|Text, [4]byte{1, 2, 3, 4}, "Hello"), keyed(fin|None, [4]byte{9, 8, 7, 6}, "World")),
			text("HelloWorld")),
		says("mask: another for a ping in a message", join(keyed(more|Text, [4]byte{1, 2, 3, 4}, "Hello"),
			keyed(fin|Ping, [4]byte{200, 8, 7, 6}, "?"), keyed(fin|None, all, "World")), ping("?"), text("HelloWorld")),
		says("mask: the payload's own bytes", keyed(fin|Binary, [4]byte([]byte("same")), "samesame"), blob("samesame")),
	}
	for size := 3; size <= 17; size++ {
		frame := keyed(fin|Binary, [4]byte{0x80, 0x40, 0x01, 0xFE}, letters(size))
		list = append(list, says(fmt.Sprintf("mask: over %d bytes", size), frame, blob(letters(size))))
	}
	for _, op := range opcodes {
		list = append(list,
			fails("mask: a "+op.name+" frame without one", protocolError, join(begun(op.code), unmasked(fin|op.code, string(closeFrame(1000, ""))))),
			fails("mask: an empty "+op.name+" frame without one", protocolError, join(begun(op.code), unmasked(fin|op.code, ""))))
	}
	return append(list,
		fails("mask: none on the second message", protocolError, join(sent(fin|Text, "before"), unmasked(fin|Text, "after")), text("before")),
		fails("mask: none on the last fragment", protocolError, join(begun(None), unmasked(fin|None, "ended"))))
}

// headerCases have the reserved bits, which no extension was agreed upon for (section 5.2).
func headerCases() []Case {
	var list []Case
	for bits := byte(1); bits < 8; bits++ {
		for _, op := range opcodes {
			frame := sent(fin|bits<<4|op.code, string(closeFrame(1000, "")))
			list = append(list, fails(fmt.Sprintf("reserved bits: %03b on a %s frame", bits, op.name), protocolError, join(begun(op.code), frame)))
		}
	}
	return append(list,
		fails("reserved bits: on the second message", protocolError, join(sent(fin|Text, "before"), sent(fin|rsv1|Text, "after")), text("before")),
		fails("reserved bits: on a first fragment", protocolError, sent(more|rsv1|Text, "begun")),
		fails("reserved bits: on an empty frame", protocolError, sent(fin|rsv1|Text, "")),
		fails("reserved bits: on a frame too large", protocolError, announced(fin|rsv1|Text, 8, CaseLimit+1)))
}

// opcodeCases have the opcodes that are reserved (section 5.2).
func opcodeCases() []Case {
	var list []Case
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		name := fmt.Sprintf("reserved opcode: %d", op)
		list = append(list,
			fails(name, protocolError, sent(fin|op, "what")),
			fails(name+", empty", protocolError, sent(fin|op, "")),
			fails(name+", without FIN", protocolError, sent(more|op, "what")),
			fails(name+", after a message and a ping", protocolError,
				join(sent(fin|Text, "before"), sent(fin|Ping, "?"), sent(fin|op, "what"), sent(fin|Ping, "unheard")), text("before"), ping("?")),
			fails(name+", within a message", protocolError, join(begun(None), sent(fin|op, "what"), sent(fin|None, "ended"))))
	}
	return list
}
