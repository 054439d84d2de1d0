package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// utf8Texts are sequences that are UTF-8 (RFC 3629), the bounds of each length among them.
var utf8Texts = []struct{ name, text string }{
	{"U+0000", "\x00"}, {"U+007F", "\x7f"}, {"U+0080", "\xc2\x80"}, {"U+07FF", "\xdf\xbf"}, {"U+0800", "\xe0\xa0\x80"},
	{"U+D7FF, before the surrogates", "\xed\x9f\xbf"}, {"U+E000, after the surrogates", "\xee\x80\x80"},
	{"U+FEFF, the byte order mark", "\xef\xbb\xbf"}, {"U+FFFD, the replacement character", "\xef\xbf\xbd"},
	{"U+FFFE, no character", "\xef\xbf\xbe"}, {"U+FFFF, no character", "\xef\xbf\xbf"}, {"U+10000", "\xf0\x90\x80\x80"},
	{"U+1FFFE, no character", "\xf0\x9f\xbf\xbe"}, {"U+3FFFF", "\xf0\xbf\xbf\xbf"}, {"U+40000", "\xf1\x80\x80\x80"},
	{"U+FFFFF", "\xf3\xbf\xbf\xbf"}, {"U+100000", "\xf4\x80\x80\x80"}, {"U+10FFFF, the last one", "\xf4\x8f\xbf\xbf"},
	{"Greek", "κόσμε"}, {"characters of 1 to 4 bytes", "a-é-€-𝄞"}, {"combining marks", "e\u0301 👩\u200d👧"},
	{"Hello-µ@ßöäüàá-UTF-8!!", "Hello-µ@ßöäüàá-UTF-8!!"},
}

// notUTF8Texts are sequences that are not.
var notUTF8Texts = []struct{ name, text string }{
	{"a continuation byte alone, 80", "\x80"}, {"a continuation byte alone, BF", "\xbf"}, {"continuation bytes alone", "\x80\xbf\x80\xbf\x80\xbf"},
	{"a continuation byte too many", "é\xa9"},
	{"2 bytes without the last", "\xc2"}, {"2 bytes without the last, then a space", "\xdf "},
	{"3 bytes without the last", "\xe0\xa0"}, {"3 bytes without the last two", "\xef"}, {"3 bytes without the last, then a space", "\xe2\x82 "},
	{"4 bytes without the last", "\xf0\x90\x80"}, {"4 bytes without the last two", "\xf4\x8f"}, {"4 bytes without the last three", "\xf0"},
	{"4 bytes without the last, then a space", "\xf0\x9d\x84 "}, {"4 bytes, interrupted by another character", "\xf0\x9dé\x84\x9e"},
	{"first bytes only", "\xc2\xe0\xf0"},
	{"overlong: / in 2 bytes", "\xc0\xaf"}, {"overlong: U+0000 in 2 bytes", "\xc0\x80"}, {"overlong: U+007F in 2 bytes", "\xc1\xbf"},
	{"overlong: / in 3 bytes", "\xe0\x80\xaf"}, {"overlong: U+0000 in 3 bytes", "\xe0\x80\x80"}, {"overlong: U+07FF in 3 bytes", "\xe0\x9f\xbf"},
	{"overlong: / in 4 bytes", "\xf0\x80\x80\xaf"}, {"overlong: U+0000 in 4 bytes", "\xf0\x80\x80\x80"},
	{"overlong: U+FFFF in 4 bytes", "\xf0\x8f\xbf\xbf"},
	{"overlong: / in 5 bytes", "\xf8\x80\x80\x80\xaf"}, {"overlong: / in 6 bytes", "\xfc\x80\x80\x80\x80\xaf"},
	{"surrogate U+D800", "\xed\xa0\x80"}, {"surrogate U+DB7F", "\xed\xad\xbf"}, {"surrogate U+DBFF", "\xed\xaf\xbf"},
	{"surrogate U+DC00", "\xed\xb0\x80"}, {"surrogate U+DFFF", "\xed\xbf\xbf"}, {"a pair of surrogates", "\xed\xa0\x80\xed\xb0\x80"},
	{"U+110000", "\xf4\x90\x80\x80"}, {"U+13FFFF", "\xf4\xbf\xbf\xbf"}, {"U+140000", "\xf5\x80\x80\x80"}, {"U+1FFFFF", "\xf7\xbf\xbf\xbf"},
	{"U+200000 in 5 bytes", "\xf8\x88\x80\x80\x80"}, {"U+3FFFFFF in 5 bytes", "\xfb\xbf\xbf\xbf\xbf"},
	{"U+7FFFFFFF in 6 bytes", "\xfd\xbf\xbf\xbf\xbf\xbf"},
	{"FE", "\xfe"}, {"FF", "\xff"}, {"FE FE FF FF", "\xfe\xfe\xff\xff"}, {"Latin-1", "caf\xe9"}, {"UTF-16", "\xff\xfeH\x00i\x00"},
	{"Greek, and a surrogate", "κόσμε\xed\xa0\x80edited"},
}

// bytesOf returns a string for each byte of s.
func bytesOf(s string) []string {
	var list []string
	for i := range len(s) {
		list = append(list, s[i:i+1])
	}
	return list
}

// utf8Cases are text messages that have to be let through, in one frame and cut within characters (sections 5.6 and 8.1).
func utf8Cases() []Case {
	var list []Case
	for _, valid := range utf8Texts {
		list = append(list, says("UTF-8: "+valid.name, sent(fin|Text, valid.text), text(valid.text)))
		if n := len(valid.text); n > 1 {
			list = append(list, says("UTF-8: "+valid.name+", a byte each, pings between", fragments(Text, sent(fin|Ping, valid.text), bytesOf(valid.text)...),
				append(slices.Repeat([]Message{ping(valid.text)}, n-1), text(valid.text))...))
		}
	}
	var all strings.Builder
	for _, invalid := range notUTF8Texts {
		all.WriteString(invalid.text)
	}
	return append(list,
		says("UTF-8: binary messages needn't be", sent(fin|Binary, all.String()), blob(all.String())),
		says("UTF-8: binary fragments needn't be", fragments(Binary, nil, bytesOf(all.String())...), blob(all.String())))
}

// notUTF8Cases are text messages that fail a connection, in one frame and cut within characters. Whether a receiver sees it at
// once or at the message's end is its own affair: nothing is between the fragments.
func notUTF8Cases() []Case {
	var list []Case
	for _, invalid := range notUTF8Texts {
		list = append(list, fails("not UTF-8: "+invalid.name, invalidData,
			join(sent(fin|Text, "before"), sent(fin|Text, invalid.text), sent(fin|Text, "unheard")), text("before")))
		if len(invalid.text) > 1 {
			list = append(list, fails("not UTF-8: "+invalid.name+", a byte each", invalidData, fragments(Text, nil, bytesOf(invalid.text)...)))
		}
	}
	return list
}

// acrossCases are about where a text is cut, and where the fault lies.
func acrossCases() []Case {
	var list []Case
	for cut := 1; cut < 4; cut++ {
		head, tail := "𝄞"[:cut], "𝄞"[cut:]
		list = append(list,
			says(fmt.Sprintf("UTF-8: a character cut behind byte %d of 4", cut), fragments(Text, nil, "a"+head, tail+"b"), text("a𝄞b")),
			says(fmt.Sprintf("UTF-8: a character cut behind byte %d of 4, an empty fragment between", cut),
				fragments(Text, nil, head, "", tail), text("𝄞")),
			fails(fmt.Sprintf("not UTF-8: a character cut behind byte %d of 4 by the message's end", cut), invalidData,
				join(sent(fin|Text, head), sent(fin|Text, tail))),
			fails(fmt.Sprintf("not UTF-8: a character cut behind byte %d of 4 by the last fragment's end", cut), invalidData,
				join(fragments(Text, nil, "a", "b"+head), sent(fin|Text, tail))),
			says(fmt.Sprintf("UTF-8: a binary message in halves of a character, %d bytes first", cut),
				join(sent(fin|Binary, head), sent(fin|Text, "𝄞"), sent(fin|Binary, tail)), blob(head), text("𝄞"), blob(tail)))
	}
	long := strings.Repeat("κόσμε ", 5000)
	return append(list,
		says("UTF-8: 55000 bytes", sent(fin|Text, long), text(long)),
		says("UTF-8: 55000 bytes in fragments of 7", fragments(Text, nil, pieces(long, 7)...), text(long)),
		fails("not UTF-8: the first byte of many", invalidData, sent(fin|Text, "\xff"+letters(60000))),
		fails("not UTF-8: the last byte of many", invalidData, sent(fin|Text, letters(60000)+"\xff")),
		fails("not UTF-8: a byte in the midst of many", invalidData, sent(fin|Text, letters(30001)+"\xff"+letters(30001))),
		fails("not UTF-8: the last of many fragments", invalidData, fragments(Text, nil, append(pieces(letters(7000), 7), "\xff")...)),
		fails("not UTF-8: a middle fragment", invalidData, fragments(Text, nil, "a", "\xed\xa0\x80", "b")),
		fails("not UTF-8: behind a binary message that isn't either", invalidData, join(sent(fin|Binary, "\xff"), sent(fin|Text, "\xff")), blob("\xff")))
}

// pieces cuts s into strings of n bytes.
func pieces(s string, n int) []string {
	var list []string
	for len(s) > n {
		list, s = append(list, s[:n]), s[n:]
	}
	return append(list, s)
}
