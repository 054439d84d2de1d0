// Package wsframe is RFC 6455's framing on byte slices: it cuts messages from what was read, in place, and appends frames to what
// is to be written. It reads and writes nothing itself; servers and clients use it, on goroutines and on event loops.
package wsframe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Close codes (RFC 6455, section 7.4.1).
const (
	CodeNormal        = 1000
	CodeProtocolError = 1002
	CodeNoStatus      = 1005 // never on the wire: the close frame was empty
	CodeInvalidData   = 1007
	CodeTooBig        = 1009
)

// MaxControlSize is what a control frame may hold (RFC 6455, section 5.5).
const MaxControlSize = 125

// MaxHeaderSize is the longest header of a frame.
const MaxHeaderSize = 14

// Error is a peer's breach of the protocol. Code is what it is to be closed with.
type Error struct {
	Code   int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.Reason, e.Code) }

func protocolError(format string, args ...any) error {
	return &Error{Code: CodeProtocolError, Reason: fmt.Sprintf(format, args...)}
}

var errNotUTF8 = &Error{Code: CodeInvalidData, Reason: "text is not UTF-8"}

// CloseError is a peer's close frame. It is io.EOF's kin: after it nothing comes any more.
type CloseError struct {
	Code   int // CodeNoStatus: the frame was empty
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closed by the peer: %d %q", e.Code, e.Reason)
}

// Message is a data message, or a control frame.
type Message struct {
	Kind int // one of frame's
	Data []byte
}

const (
	finBit       = 0x80
	reservedBits = 0x70
	opcodeBits   = 0x0F
	maskBit      = 0x80
	lengthBits   = 0x7F
	length16     = 126
	length64     = 127

	opContinuation = 0
)

// Parser cuts messages from one direction of a connection. The zero value is a client's parser, without a limit.
type Parser struct {
	Limit  int  // bytes of a message; 0: none. It may be changed between calls.
	Masked bool // frames have to be masked: a server's parser
	Loose  bool // text needn't be UTF-8: v0.5.5 sends binary headers in text frames

	begun *Message // whose first frame has come, nil: none
}

// Unfinished reports whether some fragments of a message have come, and not all.
func (p *Parser) Unfinished() bool { return p.begun != nil }

// Next looks for a message at the start of buf, unmasks it in place, and returns it with how many bytes of buf it took. While buf
// doesn't hold all of it, size is 0 where nothing was used up, or the size of the fragment that was, and the message's Kind is
// 0. The message is a part of buf, or nobody else's where it came in fragments. An error is an *Error, a *frame.TooLargeError, known
// before the bytes have come, or a *CloseError, and the last thing there is.
func (p *Parser) Next(buf []byte) (m Message, size int, err error) {
	h, ok, err := p.header(buf)
	if !ok || err != nil {
		return Message{}, 0, err
	}
	if uint64(len(buf)-h.size) < h.length {
		return Message{}, 0, nil
	}
	size = h.size + int(h.length)
	payload := buf[h.size:size:size]
	if p.Masked {
		Mask(payload, h.mask)
	}
	if h.opcode >= frame.KindClose {
		m, err = control(h.opcode, payload)
		return m, size, err
	}
	m, err = p.data(h, payload)
	return m, size, err
}

// header is one frame's.
type header struct {
	fin    bool
	opcode int
	length uint64
	mask   [4]byte
	size   int // bytes that it takes
}

// header decodes and checks the header at the start of buf. ok is false while it is not all there.
func (p *Parser) header(buf []byte) (h header, ok bool, err error) {
	if len(buf) < 2 {
		return h, false, nil
	}
	h.fin, h.opcode = buf[0]&finBit != 0, int(buf[0]&opcodeBits)
	if err := p.checkHeader(buf[0], buf[1]); err != nil {
		return h, false, err
	}
	h.length, h.size = uint64(buf[1]&lengthBits), 2
	switch h.length {
	case length16:
		if h.size = 4; len(buf) < h.size {
			return h, false, nil
		}
		if h.length = uint64(binary.BigEndian.Uint16(buf[2:])); h.length < length16 {
			return h, false, protocolError("length %d in 2 bytes", h.length)
		}
	case length64:
		if h.size = 10; len(buf) < h.size {
			return h, false, nil
		}
		if h.length = binary.BigEndian.Uint64(buf[2:]); h.length <= math.MaxUint16 || h.length > math.MaxInt64 {
			return h, false, protocolError("length %d in 8 bytes", h.length)
		}
	}
	if err := p.checkLength(h); err != nil {
		return h, false, err
	}
	if p.Masked {
		if len(buf) < h.size+4 {
			return h, false, nil
		}
		h.mask = [4]byte(buf[h.size:])
		h.size += 4
	}
	return h, true, nil
}

// checkHeader checks a frame's first two bytes.
func (p *Parser) checkHeader(first, second byte) error {
	opcode := int(first & opcodeBits)
	switch {
	case first&reservedBits != 0:
		return protocolError("reserved bits set: %#x", first)
	case (second&maskBit != 0) != p.Masked && p.Masked:
		return protocolError("frame without a mask")
	case (second&maskBit != 0) != p.Masked:
		return protocolError("frame with a mask")
	case opcode > frame.KindBinary && opcode < frame.KindClose, opcode > frame.KindPong:
		return protocolError("reserved opcode %d", opcode)
	case opcode >= frame.KindClose && first&finBit == 0:
		return protocolError("control frame in fragments")
	case opcode >= frame.KindClose && second&lengthBits > MaxControlSize:
		return protocolError("control frame of more than %d bytes", MaxControlSize)
	case opcode == opContinuation && p.begun == nil:
		return protocolError("continuation of nothing")
	case (opcode == frame.KindText || opcode == frame.KindBinary) && p.begun != nil:
		return protocolError("message within a message")
	}
	return nil
}

// checkLength bounds a message before its bytes have come. Control frames have a limit of their own.
func (p *Parser) checkLength(h header) error {
	if p.Limit <= 0 || h.opcode >= frame.KindClose {
		return nil
	}
	whole := h.length
	if p.begun != nil {
		whole += uint64(len(p.begun.Data))
	}
	if whole > uint64(p.Limit) {
		return &frame.TooLargeError{Size: whole, Limit: p.Limit}
	}
	return nil
}

// data takes in a data frame.
func (p *Parser) data(h header, payload []byte) (Message, error) {
	m := Message{Kind: h.opcode, Data: payload}
	if h.opcode == opContinuation || !h.fin {
		if h.opcode != opContinuation {
			p.begun = &Message{Kind: h.opcode, Data: []byte{}} // not nil: an empty message has data as one in a single frame does
		}
		p.begun.Data = append(p.begun.Data, payload...)
		if !h.fin {
			return Message{}, nil
		}
		m = *p.begun
		p.begun = nil
	}
	if !p.Loose {
		if err := CheckText(m.Kind, m.Data); err != nil {
			return Message{}, err
		}
	}
	return m, nil
}

// CheckText returns an *Error if a message is text, and not UTF-8 (RFC 6455, section 8.1).
func CheckText(kind int, data []byte) error {
	if kind == frame.KindText && !utf8.Valid(data) {
		return errNotUTF8
	}
	return nil
}

// control takes in a control frame.
func control(opcode int, payload []byte) (Message, error) {
	if opcode != frame.KindClose {
		return Message{Kind: opcode, Data: payload}, nil
	}
	switch {
	case len(payload) == 0:
		return Message{}, &CloseError{Code: CodeNoStatus}
	case len(payload) == 1:
		return Message{}, protocolError("close frame of one byte")
	}
	code := int(binary.BigEndian.Uint16(payload))
	switch {
	case !ValidCode(code):
		return Message{}, protocolError("close code %d", code)
	case !utf8.Valid(payload[2:]):
		return Message{}, &Error{Code: CodeInvalidData, Reason: "close reason is not UTF-8"}
	}
	return Message{}, &CloseError{Code: code, Reason: string(payload[2:])}
}

// ValidCode reports whether a close frame may carry code (RFC 6455, section 7.4; 1012 to 1014 from IANA's registry).
func ValidCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// CodeOf returns the code that a peer is closed with for err, 0 where err is no breach of the protocol.
func CodeOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
