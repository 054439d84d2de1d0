package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// controlCases are pings and pongs (section 5.5).
func controlCases() []Case {
	var all []byte
	var echoes []Message
	for size := range 126 {
		all = append(all, sent(fin|Ping, letters(size))...)
		echoes = append(echoes, ping(letters(size)))
	}
	list := []Case{
		says("control: pings of 0 to 125 bytes", all, echoes...),
		says("control: a ping that isn't text", sent(fin|Ping, "\x00\xff\xfe\xed\xa0\x80"), ping("\x00\xff\xfe\xed\xa0\x80")),
		says("control: an unsolicited pong", sent(fin|Pong, ""), pong("")),
		says("control: an unsolicited pong with a payload", sent(fin|Pong, "unasked"), pong("unasked")),
		says("control: the largest pong", sent(fin|Pong, letters(125)), pong(letters(125))),
		says("control: a pong and a ping", join(sent(fin|Pong, "unasked"), sent(fin|Ping, "asked")), pong("unasked"), ping("asked")),
		says("control: the same ping ten times", slices.Repeat(sent(fin|Ping, "again"), 10), slices.Repeat([]Message{ping("again")}, 10)...),
		says("control: pings around messages",
			join(sent(fin|Ping, "1"), sent(fin|Text, "2"), sent(fin|Ping, "3"), sent(fin|Binary, "4"), sent(fin|Ping, "5")),
			ping("1"), text("2"), ping("3"), blob("4"), ping("5")),
	}
	for _, size := range []int{0, 1, 7, 8, 64, 124, 125} {
		list = append(list, says(fmt.Sprintf("control: a ping of %d bytes", size), sent(fin|Ping, letters(size)), ping(letters(size))))
	}
	for _, op := range opcodes[3:] {
		list = append(list,
			fails("control: a "+op.name+" frame of 126 bytes", protocolError, sent(fin|op.code, letters(126))),
			fails("control: a "+op.name+" frame of 65536 bytes", protocolError, sent(fin|op.code, letters(65536))),
			fails("control: a "+op.name+" frame with 2 bytes of length", protocolError, wide(fin|op.code, 2, "Hello")),
			fails("control: a "+op.name+" frame with 8 bytes of length", protocolError, wide(fin|op.code, 8, "Hello")),
			fails("control: a "+op.name+" frame of 126 bytes is announced", protocolError, announced(fin|op.code, 2, 126)),
			fails("control: a "+op.name+" frame of 2^63 bytes is announced", protocolError, announced(fin|op.code, 8, 1<<63)),
			fails("control: a "+op.name+" frame of 126 bytes within a message", protocolError, join(begun(None), sent(fin|op.code, letters(126)))),
			fails("control: a "+op.name+" frame in fragments", protocolError, join(sent(more|op.code, "half"), sent(fin|None, "half"))),
			fails("control: an empty "+op.name+" frame without FIN", protocolError, sent(more|op.code, "")),
			fails("control: a "+op.name+" frame without FIN within a message", protocolError,
				join(begun(None), sent(more|op.code, "half"), sent(fin|None, ""))))
	}
	return list
}

// fragmentCases are messages in fragments, in order (section 5.4).
func fragmentCases() []Case {
	hello := strings.Split("Hello, world", "")
	var list []Case
	for _, kind := range opcodes[1:3] {
		whole := func(data string) Message { return Message{int(kind.code), data} }
		name := "fragments: " + kind.name + ", "
		list = append(list,
			says(name+"two", fragments(kind.code, nil, "Hello, ", "world"), whole("Hello, world")),
			says(name+"a byte each", fragments(kind.code, nil, hello...), whole("Hello, world")),
			says(name+"the first empty", fragments(kind.code, nil, "", "Hello"), whole("Hello")),
			says(name+"the middle empty", fragments(kind.code, nil, "Hel", "", "lo"), whole("Hello")),
			says(name+"the last empty", fragments(kind.code, nil, "Hello", ""), whole("Hello")),
			says(name+"all empty", fragments(kind.code, nil, "", "", ""), whole("")),
			says(name+"two of 125 and 126 bytes", fragments(kind.code, nil, letters(125), letters(126)), whole(letters(125)+letters(126))),
			says(name+"a ping between", fragments(kind.code, sent(fin|Ping, "?"), "Hello, ", "world"), ping("?"), whole("Hello, world")),
			says(name+"an empty ping between", fragments(kind.code, sent(fin|Ping, ""), "Hello, ", "world"), ping(""), whole("Hello, world")),
			says(name+"a pong between", fragments(kind.code, sent(fin|Pong, "!"), "Hello, ", "world"), pong("!"), whole("Hello, world")),
			says(name+"a ping and a pong between", fragments(kind.code, join(sent(fin|Ping, "?"), sent(fin|Pong, "!")), "Hel", "lo"),
				ping("?"), pong("!"), whole("Hello")),
			says(name+"pings behind all but the last", fragments(kind.code, sent(fin|Ping, letters(125)), hello...),
				append(slices.Repeat([]Message{ping(letters(125))}, len(hello)-1), whole("Hello, world"))...),
			says(name+"and one unfinished", join(fragments(kind.code, nil, "Hel", "lo"), sent(more|kind.code, "never")), whole("Hello")),
			says(name+"a ping behind one unfinished", join(sent(more|kind.code, "never"), sent(fin|Ping, "?")), ping("?")),
			leaves(name+"a close between", 1000, "", fragments(kind.code, farewellFrame(1000, ""), "Hel", "lo")),
			leaves(name+"a ping and a close between", 1001, "off",
				join(sent(more|kind.code, "Hel"), sent(fin|Ping, "?"), farewellFrame(1001, "off")), ping("?")))
	}
	return append(list,
		says("fragments: 1000", fragments(Binary, nil, slices.Repeat([]string{"xy"}, 1000)...), blob(strings.Repeat("xy", 1000))),
		says("fragments: 1000 empty, and one that is not", fragments(Text, nil, append(make([]string, 1000), "x")...), text("x")),
		says("fragments: one message after another",
			join(fragments(Text, nil, "a", "b"), fragments(Binary, nil, "c", "d"), fragments(Text, nil, "e", "f", "g")),
			text("ab"), blob("cd"), text("efg")),
		says("fragments: behind whole messages, and before", join(sent(fin|Binary, "a"), fragments(Text, nil, "b", "c"), sent(fin|Binary, "d")),
			blob("a"), text("bc"), blob("d")),
		says("messages: 1000 in one go", slices.Repeat(join(sent(fin|Text, "to"), sent(fin|Binary, "fro")), 500),
			slices.Repeat([]Message{text("to"), blob("fro")}, 500)...),
		says("messages: empty ones", slices.Repeat(sent(fin|Text, ""), 20), slices.Repeat([]Message{text("")}, 20)...),
		says("messages: none", nil))
}

// disorderCases are frames that are out of order (section 5.4).
func disorderCases() []Case {
	var list []Case
	for _, first := range []struct {
		name string
		bits byte
	}{{"", fin}, {", without FIN", more}} {
		continuation := sent(first.bits|None, "of what")
		list = append(list,
			fails("disorder: a continuation at the start"+first.name, protocolError, join(continuation, sent(fin|Text, "unheard"))),
			fails("disorder: an empty continuation at the start"+first.name, protocolError, sent(first.bits|None, "")),
			fails("disorder: a continuation behind a message"+first.name, protocolError, join(sent(fin|Text, "before"), continuation), text("before")),
			fails("disorder: a continuation behind fragments"+first.name, protocolError,
				join(fragments(Binary, nil, "be", "fore"), continuation), blob("before")),
			fails("disorder: a continuation behind a ping"+first.name, protocolError, join(sent(fin|Ping, "?"), continuation), ping("?")),
			fails("disorder: a continuation behind a pong"+first.name, protocolError, join(sent(fin|Pong, "!"), continuation), pong("!")))
		for _, outer := range opcodes[1:3] {
			for _, inner := range opcodes[1:3] {
				list = append(list, fails(fmt.Sprintf("disorder: %s within %s%s", inner.name, outer.name, first.name), protocolError,
					join(sent(more|outer.code, "begun"), sent(first.bits|inner.code, "again"), sent(fin|None, "ended"))))
			}
		}
	}
	return append(list,
		fails("disorder: a message behind two fragments and a ping", protocolError,
			join(sent(more|Text, "a"), sent(more|None, "b"), sent(fin|Ping, "?"), sent(fin|Text, "c")), ping("?")),
		fails("disorder: an empty message within an empty one", protocolError, join(sent(more|Text, ""), sent(fin|Text, ""))),
		fails("disorder: a continuation of what is too large", protocolError, announced(fin|None, 8, CaseLimit+1)),
		fails("disorder: a message within another, too large", protocolError, join(begun(None), announced(fin|Text, 8, CaseLimit+1))))
}

// partialCases end inside a frame, of which nothing must come.
func partialCases() []Case {
	whole, long, longer := sent(fin|Text, "Hello"), sent(fin|Binary, letters(300)), sent(fin|Binary, letters(65536))
	list := []Case{
		partial("partial: a message, and the next one's first byte", join(whole, whole[:1]), text("Hello")),
		partial("partial: a continuation", join(begun(None), sent(fin|None, "ended")[:8])),
		partial("partial: a ping", sent(fin|Ping, "Hello")[:9]),
		partial("partial: a pong behind a ping", join(sent(fin|Ping, "?"), sent(fin|Pong, "Hello")[:9]), ping("?")),
		partial("partial: a close frame", farewellFrame(1000, "going")[:8]),
		partial("partial: a close frame's first byte", farewellFrame(1000, "")[:1]),
	}
	for _, cut := range []int{1, 2, 4, 6, 10} {
		list = append(list, partial(fmt.Sprintf("partial: %d bytes of 11", cut), whole[:cut]))
	}
	for _, cut := range []int{3, 4, 7, 8, 307} {
		list = append(list, partial(fmt.Sprintf("partial: %d bytes of 308", cut), long[:cut]))
	}
	for _, cut := range []int{9, 10, 13, 14, 65549} {
		list = append(list, partial(fmt.Sprintf("partial: %d bytes of 65550", cut), longer[:cut]))
	}
	return list
}
