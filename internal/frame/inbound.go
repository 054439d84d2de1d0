package frame

import (
	"io"
	"net"
	"sync"
)

// Inbound holds what was read from a connection and not yet cut into packets. It belongs to one goroutine. On a plain socket it
// holds no buffer while it waits for the first byte of a packet.
type Inbound struct {
	conn   net.Conn
	socket *Socket // nil: conn is no plain socket
	size   int     // of the buffer when nothing larger is under way
	keep   bool    // the buffer is kept while waiting
	wait   func()  // called before each read; nil: nobody wants to know

	buf        []byte
	pooled     *[]byte // that buf is or was, nil: none
	start, end int     // buf[start:end] was read and not yet cut
	slab       Slab    // for packets that are handed over
}

const (
	idleReadBuffer = 1 << 10 // held by a stream that is no plain socket, and on which nothing larger is under way
	busyReadBuffer = 4 << 10 // of a plain socket, while there is something in it
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, busyReadBuffer); return &b }}

// NewInbound returns an Inbound for conn. size is what its buffer has while nothing larger is under way, and then it is kept; 0
// is for connections that are mostly idle.
func NewInbound(conn net.Conn, size int) *Inbound {
	b := &Inbound{conn: conn, socket: SocketOf(conn), size: size, keep: true}
	if size <= 0 {
		b.size = idleReadBuffer
		if b.socket != nil {
			b.size, b.keep = busyReadBuffer, false
		}
	}
	return b
}

// Put puts bytes that were read elsewhere before all that will be read. It is for an Inbound that nobody has used.
func (b *Inbound) Put(p []byte) {
	if len(p) > 0 {
		b.buf, b.end = append(make([]byte, 0, len(p)), p...), len(p)
	}
}

// OnWait has wait called, on the reading goroutine, before each read from the connection: what was read before has been dealt
// with.
func (b *Inbound) OnWait(wait func()) { b.wait = wait }

// Bytes returns what was read and not yet cut. It is valid until the next Fill or Consume.
func (b *Inbound) Bytes() []byte { return b.buf[b.start:b.end] }

// Consume gives up n bytes, and with the last of them a buffer that has grown.
func (b *Inbound) Consume(n int) {
	if b.start += n; b.start < b.end {
		return
	}
	b.start, b.end = 0, 0
	if len(b.buf) > b.size {
		b.buf = nil
	}
}

// Widen makes the buffer one of size bytes, which is kept: the connection turned out to be a busy one.
func (b *Inbound) Widen(size int) {
	buf := make([]byte, max(size, b.end-b.start))
	b.start, b.end = 0, copy(buf, b.Bytes())
	b.buf, b.size, b.keep = buf, size, true
	if b.pooled != nil {
		readBuffers.Put(b.pooled)
		b.pooled = nil
	}
}

// Copy returns a copy of packet, the first size bytes of what is left, that is the caller's. On a busy connection they share memory.
func (b *Inbound) Copy(packet []byte, size int) []byte {
	if b.keep && b.size >= slabSize {
		return b.slab.Copy(packet, b.end-b.start-size)
	}
	return append(make([]byte, 0, len(packet)), packet...)
}

// Slab makes copies of packets, many of which share memory. It belongs to one goroutine.
type Slab struct{ small, large piece }

// piece is what is left of memory to share.
type piece struct {
	rest  []byte
	whole int // how much there was
}

const (
	slabSize  = 4 << 10      // so much memory one small packet keeps at the most, if it is kept,
	slabTimes = 16           // and so many times its own size a larger one
	slabSmall = slabSize / 8 // the largest that is small
)

// Copy returns a copy of packet, which no other shares bytes with. behind is how many bytes came with it, and follow.
func (s *Slab) Copy(packet []byte, behind int) []byte {
	if len(packet) <= slabSmall {
		if s.small.rest == nil || len(packet) > len(s.small.rest) {
			s.small.rest = make([]byte, slabSize)
		}
		return s.small.copy(packet)
	}
	if len(packet) > len(s.large.rest) || slabTimes*len(packet) < s.large.whole {
		size := min(len(packet)+behind, slabTimes*len(packet))
		if size < 2*len(packet) { // it would be the only one
			return append(make([]byte, 0, len(packet)), packet...)
		}
		s.large = piece{rest: make([]byte, size), whole: size}
	}
	return s.large.copy(packet)
}

func (p *piece) copy(packet []byte) []byte {
	n := copy(p.rest, packet)
	owned := p.rest[:n:n]
	p.rest = p.rest[n:]
	return owned
}

// Fill reads once more. io.EOF is the end, io.ErrUnexpectedEOF where something is left uncut.
func (b *Inbound) Fill() error {
	if b.wait != nil {
		b.wait()
	}
	var n int
	var err error
	if b.socket != nil {
		n, err = b.socket.Read(b)
	} else {
		n, err = b.conn.Read(b.Take())
	}
	b.end += n
	if n > 0 || err == nil {
		return nil
	}
	b.Idle() // most errors are the end
	if err == io.EOF && b.end > b.start {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Take is Room's. The buffer grows as bytes arrive, never because a length announces them.
func (b *Inbound) Take() []byte {
	switch {
	case b.buf == nil && b.keep:
		b.buf = make([]byte, b.size)
	case b.buf == nil:
		if b.pooled == nil { // else one that has grown was given up for it
			b.pooled = readBuffers.Get().(*[]byte)
		}
		b.buf = *b.pooled
	case b.start > 0 && b.end == len(b.buf):
		b.end = copy(b.buf, b.buf[b.start:b.end])
		b.start = 0
	}
	if b.end == len(b.buf) {
		b.buf = append(b.buf, make([]byte, len(b.buf))...)
	}
	return b.buf[b.end:]
}

// Idle is Room's. It gives the buffer back.
func (b *Inbound) Idle() {
	if b.keep || b.end > b.start {
		return
	}
	if b.pooled != nil {
		readBuffers.Put(b.pooled)
	}
	b.buf, b.pooled = nil, nil
}
