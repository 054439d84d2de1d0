package conformance

import (
	"fmt"
	"strings"
)

// closeCases are close frames that are answered alike (sections 5.5.1 and 7.4).
func closeCases() []Case {
	list := []Case{
		leaves("close: empty", NoStatus, "", sent(fin|Bye, "")),
		leaves("close: empty, behind a message and a ping", NoStatus, "",
			join(sent(fin|Text, "last"), sent(fin|Ping, "?"), sent(fin|Bye, "")), text("last"), ping("?")),
		leaves("close: with a reason", 1000, "good night", farewellFrame(1000, "good night")),
		leaves("close: with a reason of one byte", 1000, "x", farewellFrame(1000, "x")),
		leaves("close: with the longest reason", 1000, letters(123), farewellFrame(1000, letters(123))),
		leaves("close: with a reason of U+10FFFF", 1001, "\U0010ffff", farewellFrame(1001, "\U0010ffff")),
		leaves("close: with a reason of zeros", 1000, "\x00\x00", farewellFrame(1000, "\x00\x00")),
		leaves("close: with the longest reason, not in ASCII", 3000, strings.Repeat("€", 41), farewellFrame(3000, strings.Repeat("€", 41))),
		leaves("close: behind many messages", 1000, "", join(fragments(Text, nil, "a", "b"), sent(fin|Binary, letters(5000)), farewellFrame(1000, "")),
			text("ab"), blob(letters(5000))),
	}
	// 1000 to 1011 but for those that are never on the wire, 1012 to 1014 as IANA's registry has them, libraries' own, and private ones.
	for _, code := range []int{
		1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4999,
	} {
		list = append(list, leaves(fmt.Sprintf("close: %d", code), code, "", join(sent(fin|Text, "last"), farewellFrame(code, "")), text("last")))
	}
	return list
}

// badCloseCases are close frames that fail the connection.
func badCloseCases() []Case {
	list := []Case{
		fails("bad close: one byte", protocolError, sent(fin|Bye, "\x03")),
		fails("bad close: one byte, zero, behind a message", protocolError, join(sent(fin|Text, "last"), sent(fin|Bye, "\x00")), text("last")),
		fails("bad close: a reason of 124 bytes", protocolError, farewellFrame(1000, letters(124))),
		fails("bad close: a code that isn't valid, and a reason", protocolError, farewellFrame(1005, "none")),
		fails("bad close: neither code nor reason is valid", protocolError, farewellFrame(1006, "\xff")),
		fails("bad close: a code in little-endian", protocolError, sent(fin|Bye, "\xe8\x03")),
		fails("bad close: a code in decimal", protocolError, sent(fin|Bye, "1000")),
		fails("bad close: within a message", protocolError, join(begun(None), farewellFrame(999, ""))),
		fails("bad close: a reason cut within a character", invalidData, farewellFrame(1000, letters(121)+"€"[:2])),
		fails("bad close: a reason that isn't valid, within a message", invalidData, join(begun(None), farewellFrame(1000, "\xff"))),
	}
	for _, code := range []int{
		0, 1, 100, 255, 256, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2500, 2999, 5000, 5001, 10000, 32768, 65535,
	} {
		list = append(list, fails(fmt.Sprintf("bad close: %d", code), protocolError, join(sent(fin|Text, "last"), farewellFrame(code, "")), text("last")))
	}
	for _, invalid := range notUTF8Texts {
		list = append(list, fails("bad close: a reason with "+invalid.name, invalidData, farewellFrame(1000, "why: "+invalid.text)))
	}
	return list
}

// afterCloseCases send more behind a close frame. All of it is ignored (section 5.5.1).
func afterCloseCases() []Case {
	var list []Case
	for _, behind := range []struct {
		name string
		sent []byte
	}{
		{"text", sent(fin|Text, "unheard")},
		{"a binary message", sent(fin|Binary, "unheard")},
		{"a large message", sent(fin|Binary, letters(65536))},
		{"a message too large", sent(fin|Binary, letters(65537))},
		{"a first fragment", sent(more|Text, "unheard")},
		{"fragments", fragments(Text, nil, "un", "heard")},
		{"a ping", sent(fin|Ping, "unheard")},
		{"a pong", sent(fin|Pong, "unheard")},
		{"the same again", farewellFrame(1000, "")},
		{"another close frame", farewellFrame(1001, "too")},
		{"an empty close frame", sent(fin|Bye, "")},
		{"a bad close frame", farewellFrame(1005, "")},
		{"reserved bits", sent(fin|rsv1|Text, "unheard")},
		{"a reserved opcode", sent(fin|3, "unheard")},
		{"a continuation", sent(fin|None, "unheard")},
		{"a frame without a mask", unmasked(fin|Text, "unheard")},
		{"text that is not UTF-8", sent(fin|Text, "\xff")},
		{"a part of a frame", sent(fin|Text, "unheard")[:7]},
		{"no frame at all", []byte("GET / HTTP/1.1\r\n\r\n")},
	} {
		list = append(list, leaves("after close: "+behind.name, 1000, "", join(farewellFrame(1000, ""), behind.sent)))
	}
	return append(list,
		leaves("after close: the end of the message that it interrupted", 1000, "", join(begun(None), farewellFrame(1000, ""), sent(fin|None, "ended"))),
		leaves("after close: empty, text", NoStatus, "", join(sent(fin|Bye, ""), sent(fin|Text, "unheard"))),
		leaves("after close: 4000, text", 4000, "", join(farewellFrame(4000, ""), sent(fin|Text, "unheard"))),
		fails("after close: of a bad one, text and a ping", protocolError,
			join(farewellFrame(1005, ""), sent(fin|Text, "unheard"), sent(fin|Ping, "unheard"))))
}
