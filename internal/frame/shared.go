package frame

import (
	"reflect"
	"sync"
)

// Shared is one payload for many connections. What it is on the wire is made once for each way of making it.
type Shared struct {
	data []byte // static

	mu   sync.Mutex // guards the rest
	made map[any]any
}

// NewShared returns a Shared that owns data.
func NewShared(data []byte) *Shared { return &Shared{data: data} }

// Bytes returns the payload. It must not be changed.
func (s *Shared) Bytes() []byte { return s.data }

// Encoded returns what encode makes of the payload, and made for the same key before.
func (s *Shared) Encoded(key any, encode func(payload []byte) (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.made[key]; ok {
		return v, nil
	}
	v, err := encode(s.data)
	if err != nil {
		return nil, err
	}
	if s.made == nil {
		s.made = map[any]any{}
	}
	s.made[key] = v
	return v, nil
}

// NewSharedPacket returns a packet whose payload many packets share.
func NewSharedPacket(kind int, s *Shared) *Packet {
	return &Packet{kind: kind, data: s.data, shared: s}
}

// Shared returns what the packet shares, nil if its payload is its own.
func (p *Packet) Shared() *Shared { return p.shared }

// appendPacket appends p, marked by framer.
func appendPacket(dst []byte, framer Framer, p *Packet) ([]byte, error) {
	if p.shared == nil || !reflect.TypeOf(framer).Comparable() { // a framer of somebody's own may be no key
		return framer.Append(dst, p.data)
	}
	marked, err := p.shared.Encoded(framer, func(payload []byte) (any, error) {
		return framer.Append(make([]byte, 0, len(payload)+8), payload)
	})
	if err != nil {
		return dst, err
	}
	return append(dst, marked.([]byte)...), nil
}
