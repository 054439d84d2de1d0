package conformance

import (
	"encoding/binary"
	"slices"
)

// CaseLimit is the largest message that the receiver of a Case accepts: a server's default.
const CaseLimit = 64 << 10

// Case is what a client sends after the upgrade, and what RFC 6455 has come of it.
type Case struct {
	Name string
	Sent []byte
	// Received is what there is in it, in order: a text or a binary message is for the handlers, a ping is answered by a pong
	// of the same payload, and a pong comes to nothing.
	Received []Message
	// Close is the code of the close frame that the receiver sends, NoStatus for an empty one. After it nothing is received or
	// sent, and the connection ends. 0: the connection goes on.
	Close int
	// Answer says that Close answers the client's own close frame, whose reason was Reason.
	Answer bool
	Reason string
	// Partial says that Sent ends inside a frame.
	Partial bool
}

// Message is a message, or a ping or a pong.
type Message struct {
	Kind int
	Data string
}

// NoStatus stands for the code of a close frame without one. It is never on the wire.
const NoStatus = 1005

// The codes by which a receiver fails a connection (RFC 6455, section 7.4.1).
const (
	protocolError = 1002
	invalidData   = 1007
	tooBig        = 1009
)

// The bits before the opcode, and none of the last for a frame that more fragments follow.
const (
	fin  = 0x80
	rsv1 = 0x40
	more = 0x00
)

// Cases returns the table. Names are unique.
func Cases() []Case {
	return slices.Concat(exampleCases(), lengthCases(), limitCases(), maskCases(), headerCases(), opcodeCases(),
		controlCases(), fragmentCases(), disorderCases(), partialCases(), utf8Cases(), notUTF8Cases(), acrossCases(),
		closeCases(), badCloseCases(), afterCloseCases())
}

// says is a case of a connection that goes on.
func says(name string, sent []byte, received ...Message) Case {
	return Case{Name: name, Sent: sent, Received: received}
}

// fails is a case of a connection that the receiver fails by code.
func fails(name string, code int, sent []byte, received ...Message) Case {
	return Case{Name: name, Sent: sent, Received: received, Close: code}
}

// leaves is a case of a client that closes by code, for reason, and is answered alike.
func leaves(name string, code int, reason string, sent []byte, received ...Message) Case {
	return Case{Name: name, Sent: sent, Received: received, Close: code, Answer: true, Reason: reason}
}

// partial is a case of a client that stops inside a frame.
func partial(name string, sent []byte, received ...Message) Case {
	return Case{Name: name, Sent: sent, Received: received, Partial: true}
}

func text(data string) Message { return Message{Text, data} }
func blob(data string) Message { return Message{Binary, data} }
func ping(data string) Message { return Message{Ping, data} }
func pong(data string) Message { return Message{Pong, data} }

// sent returns a frame as a client sends it: masked, its length in as few bytes as there can be.
func sent(first byte, data string) []byte { return wsWire{client: true}.frame(first, []byte(data)) }

// unmasked returns a frame as only servers may send it.
func unmasked(first byte, data string) []byte { return wsWire{}.frame(first, []byte(data)) }

// keyed returns a frame masked by key.
func keyed(first byte, key [4]byte, data string) []byte {
	return keyedBehind(wsWire{}.head(first, uint64(len(data))), key, data)
}

// wide returns a frame whose length is in width bytes, 2 or 8, whether it needs them or not.
func wide(first byte, width int, data string) []byte {
	return keyedBehind(lengthField(first, width, uint64(len(data))), mask, data)
}

// announced returns the head of a frame of size bytes, with the length in width bytes, 2 or 8.
func announced(first byte, width int, size uint64) []byte {
	return keyedBehind(lengthField(first, width, size), mask, "")
}

func lengthField(first byte, width int, size uint64) []byte {
	if width == 2 {
		return binary.BigEndian.AppendUint16([]byte{first, 126}, uint16(size))
	}
	return binary.BigEndian.AppendUint64([]byte{first, 127}, size)
}

func keyedBehind(head []byte, key [4]byte, data string) []byte {
	head[1] |= 0x80
	b := append(head, key[:]...)
	for i := range len(data) {
		b = append(b, data[i]^key[i%4])
	}
	return b
}

// farewellFrame returns a client's close frame.
func farewellFrame(code int, reason string) []byte {
	return sent(fin|Bye, string(closeFrame(code, reason)))
}

// fragments returns a message in a frame for each of parts, with between behind each but the last.
func fragments(kind byte, between []byte, parts ...string) []byte {
	var b []byte
	for i, part := range parts {
		first := kind
		if i > 0 {
			first, b = None, append(b, between...)
		}
		if i == len(parts)-1 {
			first |= fin
		}
		b = append(b, sent(first, part)...)
	}
	return b
}

// letters returns size bytes of text that tell where one is missing.
func letters(size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'a' + byte((i+i/26)%26)
	}
	return string(b)
}

// join puts frames behind each other.
func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

// opcodes are those that RFC 6455 defines, and their names.
var opcodes = []struct {
	code byte
	name string
}{{None, "continuation"}, {Text, "text"}, {Binary, "binary"}, {Bye, "close"}, {Ping, "ping"}, {Pong, "pong"}}

// begun returns a first fragment where a frame of opcode is out of order without one.
func begun(opcode byte) []byte {
	if opcode == None {
		return sent(more|Text, "begun")
	}
	return nil
}
