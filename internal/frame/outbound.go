package frame

import (
	"net"
	"sync"
	"time"
)

// Encoder appends a packet as it is on the wire. One that can't be expressed is refused with an error, and dst is returned as it was.
type Encoder func(dst []byte, p *Packet) ([]byte, error)

// Outbound writes packets to a connection with as few writes as gathering allows. One goroutine at a time writes.
type Outbound struct {
	conn    net.Conn
	socket  NowWriter // nil: conn is no plain socket
	framer  Framer    // marks packets, where encode is nil
	encode  Encoder
	timeout time.Duration // for each write that waits; 0: none

	rest []byte // of a packet that the kernel took the first part of: the next one to be written is that packet
}

// NowWriter writes without waiting: less than all of p, and no error, where it would have to.
type NowWriter interface {
	WriteNow(p []byte) (n int, err error)
}

// NewEagerOutbound returns an Outbound that has no other way to write than WriteNow. encode may be nil: framer marks the packets then.
func NewEagerOutbound(w NowWriter, framer Framer, encode Encoder) Outbound {
	return Outbound{socket: w, framer: framer, encode: encode}
}

// NewOutbound returns an Outbound for conn. encode may be nil: framer marks the packets then.
func NewOutbound(conn net.Conn, framer Framer, encode Encoder, timeout time.Duration) Outbound {
	o := Outbound{conn: conn, framer: framer, encode: encode, timeout: timeout}
	if s := SocketOf(conn); s != nil {
		o.socket = s
	}
	return o
}

// Eager reports whether WriteNow may be called.
func (o *Outbound) Eager() bool { return o.socket != nil }

// Cut reports whether a packet was written in part.
func (o *Outbound) Cut() bool { return len(o.rest) > 0 }

// WriteNow writes what the kernel takes without waiting, and returns how many packets, from the first on, it took whole. After
// less than all of them, without an error, the next call has to begin with those that are left.
func (o *Outbound) WriteNow(packets []*Packet) (int, error) {
	return o.write(packets, o.socket.WriteNow)
}

// Write writes packets, each write within the timeout. It returns how many of them, from the first on, were handed to the kernel
// in full. A packet that can't be expressed is marked with Refuse, counts as dealt with, and disturbs no other.
func (o *Outbound) Write(packets []*Packet) (int, error) {
	n, err := o.write(packets, o.writeWaiting)
	if err == nil && o.socket != nil && o.timeout > 0 { // which would end a later WriteNow
		err = o.conn.SetWriteDeadline(time.Time{})
	}
	return n, err
}

func (o *Outbound) writeWaiting(buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if o.timeout > 0 {
		if err := o.conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
			return 0, err
		}
	}
	return o.conn.Write(buf)
}

// gathering is what goes out with one write.
type gathering struct {
	buf  []byte
	ends []int // of packets in buf
}

const gatherLimit = 64 << 10 // bytes gathered into one write, unless one packet alone is larger

var gatherings = sync.Pool{New: func() any { return &gathering{buf: make([]byte, 0, 4<<10)} }}

func (o *Outbound) write(packets []*Packet, put func([]byte) (int, error)) (done int, err error) {
	g := gatherings.Get().(*gathering)
	defer func() {
		if cap(g.buf) <= 2*gatherLimit {
			gatherings.Put(g)
		}
	}()
	for done < len(packets) {
		o.gather(g, packets[done:])
		n, err := put(g.buf)
		whole := 0
		for whole < len(g.ends) && g.ends[whole] <= n {
			whole++
		}
		done += whole
		o.keepRest(g, whole, n)
		if err != nil || n < len(g.buf) {
			return done, err
		}
	}
	return done, nil
}

// gather fills g with packets, the rest of the first one to begin with if it was cut.
func (o *Outbound) gather(g *gathering, packets []*Packet) {
	g.buf, g.ends = append(g.buf[:0], o.rest...), g.ends[:0]
	if len(o.rest) > 0 {
		g.ends = append(g.ends, len(g.buf))
		packets = packets[1:]
	}
	for _, p := range packets {
		if len(g.buf) > 0 && len(g.buf)+len(p.data) > gatherLimit {
			return
		}
		longer, err := o.append(g.buf, p)
		if err != nil {
			p.Refuse(err)
		}
		g.buf = longer
		g.ends = append(g.ends, len(g.buf))
	}
}

func (o *Outbound) append(dst []byte, p *Packet) ([]byte, error) {
	if o.encode != nil {
		return o.encode(dst, p)
	}
	return appendPacket(dst, o.framer, p)
}

// keepRest keeps what is left of a packet of which the kernel took a part: n bytes in all, and whole packets.
func (o *Outbound) keepRest(g *gathering, whole, n int) {
	begin := 0
	if whole > 0 {
		begin = g.ends[whole-1]
	}
	switch {
	case whole == len(g.ends):
		o.rest = nil
	case n > begin:
		o.rest = append([]byte(nil), g.buf[n:g.ends[whole]]...)
	case whole > 0: // the next one was not begun
		o.rest = nil
	}
}
