package kcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// The types of frames; see the package's documentation.
const (
	typeHello   = 1
	typeWelcome = 2
	typeReady   = 3
	typeData    = 4
	typePing    = 5
	typePong    = 6
	typeClose   = 7
)

const (
	headSize   = 5
	magic      = "MGKC"
	version    = 1
	idSize     = 16 // of session ids and cookies
	helloSize  = len(magic) + 1 + idSize
	maxControl = 128 // bytes of a body that is no packet
	maxReason  = 123
	firstPiece = 4 << 10 // what is allocated for a packet before more of it has come
)

// ErrBadFrame is what a session ends with whose peer broke the rules of the wire.
var ErrBadFrame = errors.New("kcp: bad frame")

// id names a session, or proves where its client is.
type id [idSize]byte

// appendHead appends the first bytes of a frame.
func appendHead(b []byte, kind byte, length int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(length))
}

func appendFrame(b []byte, kind byte, body ...[]byte) []byte {
	length := 0
	for _, part := range body {
		length += len(part)
	}
	b = appendHead(b, kind, length)
	for _, part := range body {
		b = append(b, part...)
	}
	return b
}

func helloFrame(session id) []byte {
	return appendFrame(nil, typeHello, []byte(magic), []byte{version}, session[:])
}

func welcomeFrame(session, cookie id) []byte {
	return appendFrame(nil, typeWelcome, []byte{version}, session[:], cookie[:])
}

func closeFrame(code int, reason string) []byte {
	return appendFrame(nil, typeClose, binary.BigEndian.AppendUint16(nil, uint16(code)), []byte(frame.CutText(reason, maxReason)))
}

// parseHello returns the session id of a HELLO's body.
func parseHello(body []byte) (session id, err error) {
	switch {
	case len(body) < helloSize || string(body[:len(magic)]) != magic:
		return session, fmt.Errorf("%w: no hello", ErrBadFrame)
	case body[len(magic)] != version:
		return session, fmt.Errorf("%w: version %d, want %d", ErrBadFrame, body[len(magic)], version)
	}
	return id(body[len(magic)+1 : helloSize]), nil
}

// parseWelcome returns the cookie of a WELCOME's body, if it answers the hello of session.
func parseWelcome(body []byte, session id) (cookie id, err error) {
	switch {
	case len(body) < 1+2*idSize:
		return cookie, fmt.Errorf("%w: no welcome", ErrBadFrame)
	case body[0] != version:
		return cookie, fmt.Errorf("%w: version %d, want %d", ErrBadFrame, body[0], version)
	case id(body[1:1+idSize]) != session:
		return cookie, fmt.Errorf("%w: welcome to another session", ErrBadFrame)
	}
	return id(body[1+idSize : 1+2*idSize]), nil
}

// parseClose returns what a CLOSE's body says.
func parseClose(body []byte) (code int, reason string, err error) {
	if len(body) < 2 || len(body) > 2+maxReason {
		return 0, "", fmt.Errorf("%w: close of %d bytes", ErrBadFrame, len(body))
	}
	return int(binary.BigEndian.Uint16(body)), string(body[2:]), nil
}

// readFrame reads the next frame from r. A packet may have limit bytes. The body is the caller's. io.EOF: r has ended between frames.
func readFrame(r io.Reader, limit int) (kind byte, body []byte, err error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, size := head[0], binary.BigEndian.Uint32(head[1:])
	switch {
	case kind < typeHello || kind > typeClose:
		return 0, nil, fmt.Errorf("%w: type %d", ErrBadFrame, kind)
	case kind == typeData && uint64(size) > uint64(limit):
		return 0, nil, &frame.TooLargeError{Size: uint64(size), Limit: limit}
	case kind != typeData && size > maxControl:
		return 0, nil, fmt.Errorf("%w: type %d with %d bytes", ErrBadFrame, kind, size)
	}
	body, err = readBody(r, int(size))
	return kind, body, err
}

// readBody reads size bytes, and allocates no more than twice what has come.
func readBody(r io.Reader, size int) ([]byte, error) {
	body := make([]byte, 0, min(size, firstPiece))
	for len(body) < size {
		piece := min(size-len(body), max(firstPiece, len(body)))
		body = slices.Grow(body, piece)
		n, err := io.ReadFull(r, body[len(body):len(body)+piece])
		body = body[:len(body)+n]
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}
