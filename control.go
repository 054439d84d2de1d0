package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Control packets are data packets addressed to 0.0.0.0:0 whose payload is a type (1) and a body. PROTOCOL.md has them
// byte by byte. This file is the codec: append… writes a body behind what is in dst, read… takes one apart. What is read
// aliases the packet. Bodies may grow at the end: readers ignore what follows.
type controlType byte

const (
	ctlHello    controlType = 1  // gateway: lowest (1) · highest (1) · instance (16) · nonce (32) · name (1+n) · keys (1) · key id (8) each
	ctlWelcome  controlType = 2  // backend: version (1) · instance (16) · nonce (32) · name (1+n) · keys, 0 or 1 (1) · key id (8) · proof (1+n)
	ctlAuth     controlType = 3  // gateway: proof (1+n)
	ctlReady    controlType = 4  // backend: state (1)
	ctlOpen     controlType = 5  // gateway: key (6) · attach (4) · flags (1) · written (8) · received (8) · type (1) · transport (1+n) · address (1+n) · attributes (2+n) · state (4+n)
	ctlAttached controlType = 6  // backend: key (6) · attach (4) · flags (1) · received (8) · written (8)
	ctlType     controlType = 7  // gateway: key (6) · type (1)
	ctlClose    controlType = 8  // gateway: key (6) · attach (4) · reason (1)
	ctlClosed   controlType = 9  // backend: key (6) · attach (4) · state (4+n)
	ctlKick     controlType = 10 // backend: key (6) · code (2) · reason (1+n)
	ctlRelease  controlType = 11 // backend: key (6)
	ctlHandoff  controlType = 12 // backend: key (6) · name (1+n) · state (4+n)
	ctlJoin     controlType = 13 // backend: group (1+n) · key (6) each
	ctlLeave    controlType = 14 // backend: group (1+n) · key (6) each
	ctlCast     controlType = 15 // backend: type (1) · to (1) · [keys (4) · key (6) each | group (1+n) | nothing] · payload
	ctlPing     controlType = 16 // gateway: nonce (8)
	ctlPong     controlType = 17 // backend: nonce (8)
	ctlFlow     controlType = 18 // gateway: [key (6) · on (1)] each
	ctlDrain    controlType = 19 // backend: state (1)
	ctlGoaway   controlType = 20 // gateway: reason (1)
)

const (
	protocolVersion     = 1
	protocolSubprotocol = "gateway.v1" // of WebSocket links

	instanceSize = 16
	nonceSize    = 32
	keyIDSize    = 8
	proofSize    = 32

	maxNameSize       = 255
	maxGroupSize      = 255
	maxAttributesSize = 4 << 10
	maxStateSize      = 32 << 10
	maxReasonSize     = 123 // what a WebSocket close frame holds
)

// Flags of OPEN and ATTACHED.
const (
	flagResumed = 1 // OPEN: the session was open on this backend before
	flagAnew    = 1 // ATTACHED: the session was not known, and was opened anew
)

// closeCause is CLOSE's reason.
type closeCause byte

const (
	causeLeft    closeCause = 1 // the client has left
	causeMoved   closeCause = 2 // the session goes on elsewhere: CLOSED is awaited
	causeKicked  closeCause = 3 // the answer to KICK
	causeGoaway  closeCause = 4 // the gateway is shutting down
	causeRelease closeCause = 5 // the answer to RELEASE
)

// backendState is what READY and DRAIN tell.
type backendState byte

const (
	backendWorking  backendState = 0
	backendDraining backendState = 1 // no new sessions
	backendLeaving  backendState = 2 // and those it has go elsewhere
)

func (s backendState) String() string {
	switch s {
	case backendWorking:
		return "working"
	case backendDraining:
		return "draining"
	}
	return "leaving"
}

// castTarget says whom a CAST is for.
type castTarget byte

const (
	castKeys  castTarget = 0
	castGroup castTarget = 1
	castAll   castTarget = 2 // every session of this lane
)

var errMalformed = errors.New("malformed control packet")

type (
	instanceID [instanceSize]byte
	nonce      [nonceSize]byte
	keyID      [keyIDSize]byte
)

type helloBody struct {
	lowest, highest byte
	instance        instanceID
	nonce           nonce
	name            string
	keys            []keyID // the newest first
}

type welcomeBody struct {
	version  byte
	instance instanceID
	nonce    nonce
	name     string
	key      keyID // the zero key: none
	proof    []byte
}

type openBody struct {
	key               uint64
	attach            uint32
	resumed           bool
	written, received uint64
	kind              byte // WebSocket type of the packets that follow; 0: none
	transport         string
	address           string
	attributes        []byte // as appendAttributes makes them
	state             []byte
}

type attachedBody struct {
	key               uint64
	attach            uint32
	anew              bool
	received, written uint64
}

type castBody struct {
	kind    byte
	to      castTarget
	keys    []byte // 6 bytes each
	group   string
	payload []byte
}

// beginControl returns a new control packet up to its type, with room for a body of size bytes.
func beginControl(fromGateway bool, t controlType, size int) []byte {
	dst := make([]byte, 0, headerSize+1+size)
	if fromGateway {
		dst = appendOutHeader(dst, controlKey)
	} else {
		dst = appendInHeader(dst, controlKey, 0)
	}
	return append(dst, byte(t))
}

func appendString(dst []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(dst, byte(len(s))), s...)
}

func appendBlob(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

func appendFlag(dst []byte, on bool, flag byte) []byte {
	if on {
		return append(dst, flag)
	}
	return append(dst, 0)
}

func appendHello(dst []byte, h *helloBody) []byte {
	dst = append(dst, h.lowest, h.highest)
	dst = append(append(dst, h.instance[:]...), h.nonce[:]...)
	dst = append(appendString(dst, h.name), byte(len(h.keys)))
	for _, id := range h.keys {
		dst = append(dst, id[:]...)
	}
	return dst
}

func appendWelcome(dst []byte, w *welcomeBody) []byte {
	dst = append(dst, w.version)
	dst = append(append(dst, w.instance[:]...), w.nonce[:]...)
	dst = appendString(dst, w.name)
	if w.key == (keyID{}) {
		dst = append(dst, 0)
	} else {
		dst = append(append(dst, 1), w.key[:]...)
	}
	return appendString(dst, string(w.proof))
}

func appendOpen(dst []byte, o *openBody) []byte {
	dst = binary.BigEndian.AppendUint32(appendKey(dst, o.key), o.attach)
	dst = appendFlag(dst, o.resumed, flagResumed)
	dst = binary.BigEndian.AppendUint64(dst, o.written)
	dst = binary.BigEndian.AppendUint64(dst, o.received)
	dst = appendString(appendString(append(dst, o.kind), o.transport), o.address)
	dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(o.attributes))), o.attributes...)
	return appendBlob(dst, o.state)
}

func appendAttached(dst []byte, a *attachedBody) []byte {
	dst = binary.BigEndian.AppendUint32(appendKey(dst, a.key), a.attach)
	dst = appendFlag(dst, a.anew, flagAnew)
	dst = binary.BigEndian.AppendUint64(dst, a.received)
	return binary.BigEndian.AppendUint64(dst, a.written)
}

func appendClose(dst []byte, key uint64, attach uint32, cause closeCause) []byte {
	return append(binary.BigEndian.AppendUint32(appendKey(dst, key), attach), byte(cause))
}

func appendClosed(dst []byte, key uint64, attach uint32, state []byte) []byte {
	return appendBlob(binary.BigEndian.AppendUint32(appendKey(dst, key), attach), state)
}

func appendKick(dst []byte, key uint64, code int, reason string) []byte {
	dst = binary.BigEndian.AppendUint16(appendKey(dst, key), uint16(code))
	return appendString(dst, frame.CutText(reason, maxReasonSize))
}

func appendHandoff(dst []byte, key uint64, name string, state []byte) []byte {
	return appendBlob(appendString(appendKey(dst, key), name), state)
}

// appendGroup is the body of JOIN and LEAVE, and the head of a CAST to a group.
func appendGroup(dst []byte, group string, keys ...uint64) []byte {
	dst = appendString(dst, group)
	for _, key := range keys {
		dst = appendKey(dst, key)
	}
	return dst
}

func appendCast(dst []byte, c *castBody) []byte {
	dst = append(dst, c.kind, byte(c.to))
	switch c.to {
	case castKeys:
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(c.keys)/keySize)), c.keys...)
	case castGroup:
		dst = appendString(dst, c.group)
	}
	return append(dst, c.payload...)
}

// appendAttributes writes attributes: a count (2), then a name (1+n) and a value (2+n) each. More than 4 KiB is an error.
func appendAttributes(dst []byte, attributes map[string]string) ([]byte, error) {
	begin := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(attributes)))
	for name, value := range attributes {
		if len(name) > maxNameSize {
			return dst[:begin], fmt.Errorf("gateway: attribute name of %d bytes: %d at most", len(name), maxNameSize)
		}
		dst = binary.BigEndian.AppendUint16(appendString(dst, name), uint16(len(value)))
		if dst = append(dst, value...); len(dst)-begin > maxAttributesSize {
			return dst[:begin], fmt.Errorf("gateway: attributes of more than %d bytes", maxAttributesSize)
		}
	}
	return dst, nil
}
