package frame

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Encoder appends a packet as it is on the wire. One that can't be expressed is refused with an error, and dst is returned as it was.
type Encoder func(dst []byte, p *Packet) ([]byte, error)

// Style is how packets are made bytes.
type Style struct {
	Framer Framer  // marks packets, where Encode is nil
	Encode Encoder // nil: Framer does
}

func (s Style) append(dst []byte, p *Packet) ([]byte, error) {
	if s.Encode != nil {
		return s.Encode(dst, p)
	}
	return appendPacket(dst, s.Framer, p)
}

// NowWriter writes without waiting: less than all of p, and no error, where it would have to.
type NowWriter interface {
	WriteNow(p []byte) (n int, err error)
}

// Cut is what is left of a packet of which the kernel took the first part: the next one to be written is that packet. The zero value
// is none.
type Cut struct{ rest *[]byte }

// Pending reports whether a packet was written in part.
func (c *Cut) Pending() bool { return c.rest != nil }

// WriteNow writes what w takes without waiting, with as few writes as gathering allows, and returns how many packets, from the
// first on, it took whole. After less than all of them, without an error, the next call has to begin with those that are left. A
// packet that can't be expressed is marked with Refuse, counts as dealt with, and disturbs no other.
func (c *Cut) WriteNow(w NowWriter, style *Style, packets []*Packet) (int, error) {
	return c.write(*style, packets, w.WriteNow)
}

// ErrCutShort is why last words are not written: they would end up inside of a packet.
var ErrCutShort = errors.New("a packet was cut short")

// LastNow writes b behind whole packets, if w takes all of it now. Nobody writes after it.
func (c *Cut) LastNow(w NowWriter, b []byte) error {
	if c.Pending() {
		return ErrCutShort
	}
	n, err := w.WriteNow(b)
	if err == nil && n < len(b) {
		err = ErrCutShort
	}
	return err
}

// Outbound writes packets to a connection with as few writes as gathering allows. One goroutine at a time writes.
type Outbound struct {
	Cut
	conn    net.Conn
	socket  *Socket // nil: conn is no plain socket
	style   *Style
	timeout time.Duration // for each write that waits; 0: none
}

// NewOutbound returns an Outbound for conn.
func NewOutbound(conn net.Conn, style *Style, timeout time.Duration) Outbound {
	return Outbound{conn: conn, socket: SocketOf(conn), style: style, timeout: timeout}
}

// NewWaitingOutbound is NewOutbound where WriteNow isn't wanted, and a write so costs less.
func NewWaitingOutbound(conn net.Conn, style *Style, timeout time.Duration) Outbound {
	return Outbound{conn: conn, style: style, timeout: timeout}
}

// Eager reports whether WriteNow may be called.
func (o *Outbound) Eager() bool { return o.socket != nil }

// WriteNow is Cut's, on the connection.
func (o *Outbound) WriteNow(packets []*Packet) (int, error) {
	return o.Cut.WriteNow(o.socket, o.style, packets)
}

// Write writes packets, each write within the timeout. It returns how many of them, from the first on, were handed to the kernel
// in full. A packet that can't be expressed is marked with Refuse, counts as dealt with, and disturbs no other.
func (o *Outbound) Write(packets []*Packet) (int, error) {
	n, err := o.write(*o.style, packets, o.writeWaiting)
	if err == nil && o.socket != nil && o.timeout > 0 { // which would end a later WriteNow
		err = o.conn.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// Last writes b behind whole packets, within timeout. Nobody writes after it.
func (o *Outbound) Last(b []byte, timeout time.Duration) error {
	if o.Pending() {
		return ErrCutShort
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := o.conn.Write(b)
	return err
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

func (c *Cut) write(style Style, packets []*Packet, put func([]byte) (int, error)) (done int, err error) {
	g := gatherings.Get().(*gathering)
	defer func() {
		if cap(g.buf) <= 2*gatherLimit {
			gatherings.Put(g)
		}
	}()
	for done < len(packets) {
		c.gather(g, style, packets[done:])
		n, err := put(g.buf)
		whole := 0
		for whole < len(g.ends) && g.ends[whole] <= n {
			whole++
		}
		done += whole
		c.keepRest(g, whole, n)
		if err != nil || n < len(g.buf) {
			return done, err
		}
	}
	return done, nil
}

// gather fills g with packets, the rest of the first one to begin with if it was cut.
func (c *Cut) gather(g *gathering, style Style, packets []*Packet) {
	g.buf, g.ends = g.buf[:0], g.ends[:0]
	if c.rest != nil {
		g.buf = append(g.buf, *c.rest...)
		g.ends = append(g.ends, len(g.buf))
		packets = packets[1:]
	}
	for _, p := range packets {
		if len(g.buf) > 0 && len(g.buf)+len(p.data) > gatherLimit {
			return
		}
		longer, err := style.append(g.buf, p)
		if err != nil {
			p.Refuse(err)
		}
		g.buf = longer
		g.ends = append(g.ends, len(g.buf))
	}
}

// keepRest keeps what is left of a packet of which the kernel took a part: n bytes in all, and whole packets.
func (c *Cut) keepRest(g *gathering, whole, n int) {
	begin := 0
	if whole > 0 {
		begin = g.ends[whole-1]
	}
	switch {
	case whole == len(g.ends):
		c.rest = nil
	case n > begin:
		rest := append([]byte(nil), g.buf[n:g.ends[whole]]...)
		c.rest = &rest
	case whole > 0: // the next one was not begun
		c.rest = nil
	}
}
