package kcp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

// hub shares a socket out among the sessions of one server. It lives from Listen until both the transport and the last session are
// closed. kcp-go's own listener isn't used: it makes a session of any datagram, and one of a new conv ends the session that
// was there, so that whoever can forge an address can end anybody's.
type hub struct {
	socket net.PacketConn // static, as are the next three
	opts   options
	block  BlockCrypt // the receiving goroutine's
	ended  chan struct{}

	handshakes sync.WaitGroup

	mu       sync.Mutex // guards the rest
	sessions map[netip.AddrPort][]*entry
	count    int // of sessions
	halfOpen int
	prefixes map[netip.Prefix]int // half-open sessions
	closing  bool
}

// entry is a session as the hub knows it.
type entry struct {
	*inlet
	from netip.AddrPort
	conn *conn // written before it is in the hub
}

// maxFailures is how many reads in a row may fail before the socket is given up. Some systems report there what became of datagrams sent.
const maxFailures = 100

func newHub(socket net.PacketConn, opts options) (*hub, error) {
	block, err := opts.block()
	if err != nil {
		return nil, err
	}
	return &hub{
		socket: socket, opts: opts, block: block, ended: make(chan struct{}),
		sessions: map[netip.AddrPort][]*entry{}, prefixes: map[netip.Prefix]int{},
	}, nil
}

// receive shares out datagrams until the socket is closed.
func (h *hub) receive(acceptor *server.Acceptor, failed chan<- error) {
	defer close(h.ended)
	var b, scratch [maxSize]byte
	for failures := 0; ; {
		n, from, err := h.readFrom(b[:])
		switch {
		case err == nil:
			failures = 0
			if from.IsValid() {
				h.route(b[:n], from, scratch[:], acceptor)
			}
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if failures++; failures == maxFailures {
				failed <- err
				return
			}
		}
	}
}

func (h *hub) readFrom(b []byte) (int, netip.AddrPort, error) {
	if udp, ok := h.socket.(*net.UDPConn); ok {
		n, from, err := udp.ReadFromUDPAddrPort(b)
		return n, unmap(from), err
	}
	n, addr, err := h.socket.ReadFrom(b)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	from, _ := netip.ParseAddrPort(addr.String()) // invalid: of nobody that can be answered
	return n, unmap(from), nil
}

// unmap makes one address of the two that an IPv4 client may have on a socket that does IPv6 too.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// route hands a datagram to its session, or begins one.
func (h *hub) route(b []byte, from netip.AddrPort, scratch []byte, acceptor *server.Acceptor) {
	what, conv := inspect(b, h.block, scratch)
	if what == noSegment {
		return
	}
	if in := h.find(from, what, conv); in != nil {
		in.put(b)
		return
	}
	if what != helloSegment {
		return
	}
	e, err := h.begin(from, conv)
	if err != nil {
		acceptor.Refuse(server.RefusedHalfOpen)
		return
	}
	if e != nil {
		e.put(b)
		go h.shake(e, acceptor)
	}
}

// find returns the session that a datagram is for, nil if there is none. Parity is for the one that is established.
func (h *hub) find(from netip.AddrPort, what shape, conv uint32) *inlet {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.sessions[from] {
		if what == parity && e.established.Load() || what != parity && e.conv == conv {
			return e.inlet
		}
	}
	return nil
}

var errTooMany = errors.New("kcp: too many half-open sessions")

// begin makes a session, half-open, and counts its handshake. It is nil while the hub is closing.
func (h *hub) begin(from netip.AddrPort, conv uint32) (*entry, error) {
	if err := h.reserve(from.Addr()); err != nil {
		return nil, err
	}
	remote := net.UDPAddrFromAddrPort(from)
	e := &entry{inlet: newInlet(h.socket, remote, conv), from: from}
	session, err := newSession(conv, remote, e.inlet, &h.opts)
	if err != nil {
		h.release(from.Addr())
		return nil, err
	}
	e.conn = newConn(session, &h.opts, func() { h.forget(e) })
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		e.conn.onClose = nil
		e.conn.Close()
		e.Close()
		h.release(from.Addr())
		return nil, nil
	}
	defer h.mu.Unlock()
	h.sessions[from] = append(h.sessions[from], e)
	h.count++
	h.handshakes.Add(1)
	return e, nil
}

// reserve counts one more half-open session, if there may be one.
func (h *hub) reserve(a netip.Addr) error {
	p := prefixOf(a)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.halfOpen >= h.opts.halfOpen || h.prefixes[p] >= h.opts.perPrefix {
		return errTooMany
	}
	h.halfOpen++
	h.prefixes[p]++
	return nil
}

// release counts one less.
func (h *hub) release(a netip.Addr) {
	p := prefixOf(a)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.halfOpen--
	if h.prefixes[p]--; h.prefixes[p] == 0 {
		delete(h.prefixes, p)
	}
}

// prefixOf returns the range of addresses that one sender can be thought to have.
func prefixOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// establish notes that a session's client has proved where it is, and returns the older sessions of that address.
func (h *hub) establish(e *entry) (older []*entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, other := range h.sessions[e.from] {
		if other != e && other.established.Load() {
			older = append(older, other)
		}
	}
	e.established.Store(true)
	return older
}

// forget ends a session that was closed. The last one of a closing hub ends it.
func (h *hub) forget(e *entry) {
	e.Close()
	h.mu.Lock()
	rest := slices.DeleteFunc(h.sessions[e.from], func(other *entry) bool { return other == e })
	if len(rest) == 0 {
		delete(h.sessions, e.from)
	} else {
		h.sessions[e.from] = rest
	}
	h.count--
	h.mu.Unlock()
	h.endIfLast()
}

// close begins the end: half-open sessions are closed, the others go on.
func (h *hub) close() {
	h.mu.Lock()
	h.closing = true
	var halfOpen []*entry
	for _, some := range h.sessions {
		for _, e := range some {
			if !e.established.Load() {
				halfOpen = append(halfOpen, e)
			}
		}
	}
	h.mu.Unlock()
	for _, e := range halfOpen {
		e.conn.fail(net.ErrClosed)
	}
}

// endIfLast closes the socket of a closing hub without sessions, and waits for the goroutine that reads it.
func (h *hub) endIfLast() {
	h.mu.Lock()
	last := h.closing && h.count == 0
	h.mu.Unlock()
	if last {
		time.Sleep(h.opts.interval) // for kcp-go to send its last acknowledgement
		h.socket.Close()
		<-h.ended
	}
}
