package frame

import (
	"bytes"
	"sync"
)

// List is a list of packets, each of which is in one list at the most. The zero value is empty.
type List struct{ first, last *Packet }

// Empty reports whether no packet is in the list.
func (l *List) Empty() bool { return l.first == nil }

// Push adds p behind the others.
func (l *List) Push(p *Packet) {
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
}

// PushFront adds packets before the others.
func (l *List) PushFront(packets []*Packet) {
	for i := len(packets) - 1; i >= 0; i-- {
		if packets[i].next = l.first; l.first == nil {
			l.last = packets[i]
		}
		l.first = packets[i]
	}
}

// Pop takes the first packet out, nil if there is none.
func (l *List) Pop() *Packet {
	p := l.first
	if p == nil {
		return nil
	}
	if l.first = p.next; l.first == nil {
		l.last = nil
	}
	p.next = nil
	return p
}

// HasCallback reports whether a packet in the list wants to know what becomes of it.
func (l *List) HasCallback() bool {
	for p := l.first; p != nil; p = p.next {
		if p.HasCallback() {
			return true
		}
	}
	return false
}

// HasCallback reports whether somebody wants to know what becomes of the packet.
func (p *Packet) HasCallback() bool { return p.done != nil || p.owner != nil && p.owner.Awaited() }

var borrowed = sync.Pool{New: func() any { return &Packet{borrowed: true} }}

const largestBorrowed = 2 << 10 // bytes, of a payload's memory that is kept

// BorrowPacket returns a packet with a copy of payload, and without a callback. Whoever finishes it recycles it.
func BorrowPacket(kind int, payload []byte) *Packet {
	p := borrowed.Get().(*Packet)
	p.kind = kind
	if cap(p.data) < len(payload) && len(payload) > largestBorrowed {
		p.data = bytes.Clone(payload)
	} else {
		p.data = append(p.data[:0], payload...)
	}
	return p
}

// Recycle gives a packet that was finished back to where it was borrowed from, or to its owner. Nobody may use it after that. Of
// others it does nothing.
func (p *Packet) Recycle() {
	if p.owner != nil {
		p.owner.Released()
		return
	}
	if !p.borrowed {
		return
	}
	data := p.data[:0]
	if cap(data) > largestBorrowed {
		data = nil
	}
	*p = Packet{borrowed: true, data: data}
	borrowed.Put(p)
}
