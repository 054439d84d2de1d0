// Package frame holds what both sides of a connection must name alike: the kinds a packet can have, the packet on
// its way out, and the framers that mark packets on byte streams. It imports the standard library only.
package frame

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// The kinds of a packet: WebSocket's opcodes (RFC 6455, section 11.8). KindNone is the kind on transports without any.
const (
	KindNone   = 0
	KindText   = 1
	KindBinary = 2
	KindClose  = 8
	KindPing   = 9
	KindPong   = 10
)

// NoPacket stands in place of a kind for what was read and is no packet.
const NoPacket = -1

// WriteHeadroom is how far the limit of a link lies above that of the packets it carries, so that a packet of exactly
// the limit still fits behind the gateway's header.
const WriteHeadroom = 64

// ErrPacketTooLarge is what every TooLargeError unwraps to.
var ErrPacketTooLarge = errors.New("packet too large")

// TooLargeError tells how large a packet was, and how large it may be.
type TooLargeError struct {
	Size  uint64 // bytes; 0 where the transport doesn't tell more than that the limit was passed
	Limit int    // bytes
}

func (e *TooLargeError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("packet too large: more than the %d bytes allowed", e.Limit)
	}
	return fmt.Sprintf("packet too large: %d bytes, %d allowed", e.Size, e.Limit)
}

// Unwrap returns ErrPacketTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrPacketTooLarge }

// CheckSize returns a *TooLargeError if size is above limit.
func CheckSize(size, limit int) error {
	if size > limit {
		return &TooLargeError{Size: uint64(size), Limit: limit}
	}
	return nil
}

// CutText returns the first n bytes of s at the most, and no part of a character.
func CutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Packet is one message on its way out, whole, whatever the transport.
type Packet struct {
	kind int
	data []byte
	done func(err error)
	err  error // why it can't be expressed on its transport

	shared   *Shared // that data is of; nil: it is the packet's own
	next     *Packet // in its List
	borrowed bool    // see BorrowPacket
	owner    Owner   // in place of done; nil: none
	finished bool    // it knows the outcome
}

// NewPacket returns a packet that owns data: the caller must not touch data again. done may be nil; whoever accepts
// the packet calls it exactly once: with nil when the bytes were handed to the kernel, and else with the reason.
func NewPacket(kind int, data []byte, done func(err error)) *Packet {
	return &Packet{kind: kind, data: data, done: done}
}

// Owner is what a packet is a part of. It takes the place of a callback, where there are many packets.
type Owner interface {
	// Finished is the callback.
	Finished(err error)
	// Awaited reports whether somebody may wait for Finished, as for a callback. It is asked while Finished is still to come.
	Awaited() bool
	// Released is called when nobody has the packet any more.
	Released()
}

// Own makes p, which is a part of owner and in nobody's hands, a packet as NewPacket does.
func (p *Packet) Own(kind int, data []byte, owner Owner) {
	*p = Packet{kind: kind, data: data, owner: owner}
}

// Type returns the WebSocket type of the packet, 0 where it has none.
func (p *Packet) Type() int { return p.kind }

// Bytes returns the payload. It must not be changed.
func (p *Packet) Bytes() []byte { return p.data }

// Refuse marks a packet that its transport can't express: it is not written, and Finish reports err whatever became of
// its neighbours.
func (p *Packet) Refuse(err error) { p.err = err }

// Refused reports whether Refuse was called.
func (p *Packet) Refused() bool { return p.err != nil }

// Finish reports the packet's outcome to its callback. Calling it again does nothing.
func (p *Packet) Finish(err error) {
	if p.err != nil {
		err = p.err
	}
	switch done, owner := p.done, p.owner; {
	case done != nil:
		p.done = nil
		done(err)
	case owner != nil && !p.finished:
		p.finished = true
		owner.Finished(err)
	}
}

// JoinCallbacks makes one callback of several, nil of none. Each is called with the same error.
func JoinCallbacks(callbacks []func(err error)) func(err error) {
	switch len(callbacks) {
	case 0:
		return nil
	case 1:
		return callbacks[0]
	}
	return func(err error) { callEach(callbacks, err) }
}

// callEach calls all of them, whichever panics.
func callEach(callbacks []func(error), err error) {
	for i, callback := range callbacks {
		if callback == nil {
			continue
		}
		defer callEach(callbacks[i+1:], err)
		callback(err)
		return
	}
}
