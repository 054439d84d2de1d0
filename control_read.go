package gateway

import (
	"encoding/binary"
	"fmt"
)

// bodyReader takes a body apart. After the first thing that isn't there everything reads as zero, and err tells.
type bodyReader struct {
	rest []byte
	bad  bool
}

func (r *bodyReader) take(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *bodyReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *bodyReader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *bodyReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *bodyReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// key reads a client's key, which is never the control key.
func (r *bodyReader) key() uint64 {
	b := r.take(keySize)
	if b == nil {
		return 0
	}
	key := getKey(b)
	if key == controlKey {
		r.bad = true
	}
	return key
}

func (r *bodyReader) short() []byte  { return r.take(int(r.byte())) }
func (r *bodyReader) string() string { return string(r.short()) }

// blob reads bytes behind a length of 4, of which there may be most at the most.
func (r *bodyReader) blob(most int) []byte {
	n := r.uint32()
	if n > uint32(most) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// err names t if anything was missing or illegal.
func (r *bodyReader) err(t controlType) error {
	if r.bad {
		return fmt.Errorf("gateway: control packet of type %d: %w", t, errMalformed)
	}
	return nil
}

func readHello(body []byte) (h helloBody, err error) {
	r := bodyReader{rest: body}
	h.lowest, h.highest = r.byte(), r.byte()
	copy(h.instance[:], r.take(instanceSize))
	copy(h.nonce[:], r.take(nonceSize))
	h.name = r.string()
	for range r.byte() {
		var id keyID
		if copy(id[:], r.take(keyIDSize)) < keyIDSize {
			break
		}
		h.keys = append(h.keys, id)
	}
	r.bad = r.bad || h.lowest == 0 || h.highest < h.lowest
	return h, r.err(ctlHello)
}

func readWelcome(body []byte) (w welcomeBody, err error) {
	r := bodyReader{rest: body}
	w.version = r.byte()
	copy(w.instance[:], r.take(instanceSize))
	copy(w.nonce[:], r.take(nonceSize))
	w.name = r.string()
	switch r.byte() {
	case 0:
	case 1:
		copy(w.key[:], r.take(keyIDSize))
	default:
		r.bad = true
	}
	w.proof = r.short()
	return w, r.err(ctlWelcome)
}

func readAuth(body []byte) (proof []byte, err error) {
	r := bodyReader{rest: body}
	return r.short(), r.err(ctlAuth)
}

// readState reads READY and DRAIN.
func readState(t controlType, body []byte) (backendState, error) {
	r := bodyReader{rest: body}
	state := backendState(r.byte())
	r.bad = r.bad || state > backendLeaving
	return state, r.err(t)
}

func readOpen(body []byte) (o openBody, err error) {
	r := bodyReader{rest: body}
	o.key, o.attach = r.key(), r.uint32()
	o.resumed = r.byte()&flagResumed != 0
	o.written, o.received = r.uint64(), r.uint64()
	o.kind, o.transport, o.address = r.byte(), r.string(), r.string()
	o.attributes = r.take(int(r.uint16()))
	o.state = r.blob(maxStateSize)
	return o, r.err(ctlOpen)
}

// readAttributes calls each for each attribute.
func readAttributes(data []byte, each func(name, value string)) error {
	if len(data) == 0 {
		return nil
	}
	r := bodyReader{rest: data}
	for range r.uint16() {
		name, value := r.string(), string(r.take(int(r.uint16())))
		if r.bad {
			break
		}
		each(name, value)
	}
	return r.err(ctlOpen)
}

func readAttached(body []byte) (a attachedBody, err error) {
	r := bodyReader{rest: body}
	a.key, a.attach = r.key(), r.uint32()
	a.anew = r.byte()&flagAnew != 0
	a.received, a.written = r.uint64(), r.uint64()
	return a, r.err(ctlAttached)
}

func readType(body []byte) (key uint64, kind byte, err error) {
	r := bodyReader{rest: body}
	key, kind = r.key(), r.byte()
	return key, kind, r.err(ctlType)
}

func readClose(body []byte) (key uint64, attach uint32, cause closeCause, err error) {
	r := bodyReader{rest: body}
	key, attach, cause = r.key(), r.uint32(), closeCause(r.byte())
	return key, attach, cause, r.err(ctlClose)
}

func readClosed(body []byte) (key uint64, attach uint32, state []byte, err error) {
	r := bodyReader{rest: body}
	key, attach, state = r.key(), r.uint32(), r.blob(maxStateSize)
	return key, attach, state, r.err(ctlClosed)
}

func readKick(body []byte) (key uint64, code int, reason string, err error) {
	r := bodyReader{rest: body}
	key, code, reason = r.key(), int(r.uint16()), r.string()
	r.bad = r.bad || len(reason) > maxReasonSize
	return key, code, reason, r.err(ctlKick)
}

func readRelease(body []byte) (key uint64, err error) {
	r := bodyReader{rest: body}
	return r.key(), r.err(ctlRelease)
}

func readHandoff(body []byte) (key uint64, name string, state []byte, err error) {
	r := bodyReader{rest: body}
	key, name, state = r.key(), r.string(), r.blob(maxStateSize)
	return key, name, state, r.err(ctlHandoff)
}

// readGroup reads JOIN and LEAVE. keys has 6 bytes for each.
func readGroup(t controlType, body []byte) (group string, keys []byte, err error) {
	r := bodyReader{rest: body}
	group, keys = r.string(), r.rest
	r.bad = r.bad || len(keys)%keySize != 0
	return group, keys, r.err(t)
}

func readCast(body []byte) (c castBody, err error) {
	r := bodyReader{rest: body}
	c.kind, c.to = r.byte(), castTarget(r.byte())
	switch c.to {
	case castKeys:
		n := r.uint32()
		if uint64(n)*keySize > uint64(len(r.rest)) {
			r.bad = true
			break
		}
		c.keys = r.take(int(n) * keySize)
	case castGroup:
		c.group = r.string()
	case castAll:
	default:
		r.bad = true
	}
	c.payload = r.rest
	return c, r.err(ctlCast)
}

// readNonce reads PING and PONG.
func readNonce(t controlType, body []byte) (uint64, error) {
	r := bodyReader{rest: body}
	return r.uint64(), r.err(t)
}

// readFlow calls each for each session.
func readFlow(body []byte, each func(key uint64, congested bool)) error {
	r := bodyReader{rest: body}
	for len(r.rest) > 0 && !r.bad {
		key, on := r.key(), r.byte()
		if !r.bad {
			each(key, on != 0)
		}
	}
	return r.err(ctlFlow)
}

func readGoaway(body []byte) (reason byte, err error) {
	r := bodyReader{rest: body}
	return r.byte(), r.err(ctlGoaway)
}
