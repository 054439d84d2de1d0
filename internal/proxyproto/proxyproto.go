// Package proxyproto reads the header by which a proxy tells whose connection it hands on: the PROXY protocol, versions 1 and 2
// (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, whose sections are cited as "section 2.1").
//
// It takes the header from a stream and not a byte more, so that the socket may be handed on as it is.
package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// ErrNoHeader means that what the peer sends begins like neither version.
var ErrNoHeader = errors.New("no PROXY header")

// ErrMalformed is what every error unwraps to about a header that began well.
var ErrMalformed = errors.New("malformed PROXY header")

// Header is what a proxy tells of a connection.
type Header struct {
	Version int // 1 or 2
	// Source is the client's address and Destination where it connected to, both with v4-mapped addresses unmapped. They are
	// invalid where the proxy names no client with an IP address, and the connection's own addresses count: version 2's LOCAL
	// (the proxy speaks for itself, as for a health check), UNSPEC and UNIX, and version 1's UNKNOWN.
	Source, Destination netip.AddrPort
	Local               bool // version 2's LOCAL
}

// Named reports whether the header names a client.
func (h Header) Named() bool { return h.Source.IsValid() }

const (
	signature1 = "PROXY "                 // section 2.1, with the one space behind it
	signature2 = "\r\n\r\n\x00\r\nQUIT\n" // section 2.2; no header of either version is shorter
	usual      = headBytes + unixBytes    // room for every header but those of version 2 with much behind the addresses
)

// Read reads a header. It blocks as long as r does, takes nothing that comes after the header, and has read in full when it returns
// no error. Errors: ErrNoHeader, with the bytes that were read, which are then the beginning of something else; ErrMalformed; io.EOF
// where nothing came at all, io.ErrUnexpectedEOF, and r's own.
func Read(r io.Reader) (h Header, read []byte, err error) {
	b := make([]byte, 0, usual)
	for len(b) < len(signature2) {
		b, err = some(r, b, len(signature2)-len(b))
		if !begins(b, signature1) && !begins(b, signature2) {
			return h, b, ErrNoHeader
		}
		if err != nil {
			return h, nil, err
		}
	}
	if b[0] == signature2[0] {
		h, err = read2(r, b)
	} else {
		h, err = read1(r, b)
	}
	if err != nil {
		return Header{}, nil, err
	}
	return h, nil, nil
}

// begins reports whether b is the beginning of a stream that begins with signature, as far as one can tell.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// some appends up to n bytes from r to b, which has room for them. What came before an error comes without it: the next call tells.
func some(r io.Reader, b []byte, n int) ([]byte, error) {
	n, err := r.Read(b[len(b) : len(b)+n])
	if b = b[:len(b)+n]; n > 0 || err == nil {
		return b, nil
	}
	return b, cut(err, len(b))
}

// more appends n bytes from r to b.
func more(r io.Reader, b []byte, n int) ([]byte, error) {
	begin := len(b)
	if cap(b) < begin+n {
		b = append(make([]byte, 0, begin+n), b...)
	}
	b = b[:begin+n]
	if _, err := io.ReadFull(r, b[begin:]); err != nil {
		return b, cut(err, begin)
	}
	return b, nil
}

// cut makes an error of one that ended a header after some bytes.
func cut(err error, after int) error {
	if errors.Is(err, io.EOF) && after > 0 {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read PROXY header: %w", err)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
