package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// udpTransport makes sessions of datagrams, by the address that they come from. Three goroutines serve all of them: Serve's reads, and
// runs the handlers; one writes, and ends what is over; one runs closed handlers, which may have to wait.
type udpTransport struct {
	network Network
	opts    options // static, as are the next ones up to ends, from the beginning of Serve on
	limit   int     // bytes of the largest packet that is taken
	pc      net.PacketConn
	socket  udpSocket
	srv     *Server
	ends    *mailbox
	slab    frame.Slab // the reader's

	wakeup  chan struct{} // something is ready
	closed  chan struct{} // closed by Close, and when reading has ended
	written chan struct{} // closed when the writer has ended
	writer  udpWriter     // belongs to the writer

	mu       sync.Mutex // guards the rest
	door     udpDoor
	sessions udpTable
	ready    []*udpSession // that the writer is to look at
	serving  bool
	closing  bool
	patience *time.Timer // of Close: then the socket is closed, whatever is under way
}

var (
	_ Transport  = (*udpTransport)(nil)
	_ packetUser = (*udpTransport)(nil)
)

const udpSocketBuffer = 1 << 20 // bytes that the kernel is asked to hold; it may allow less

// newUDPTransport says no to what can't be over datagrams.
func (s *Server) newUDPTransport(opts options) (*udpTransport, error) {
	switch {
	case opts.secured():
		return nil, fmt.Errorf("%w: TLS over %s", ErrBadOption, s.network)
	case s.layer != nil:
		return nil, fmt.Errorf("%w: the links of gateways, and so a backend, need a network that keeps order: %s doesn't", ErrBadOption, s.network)
	}
	opts.udp = opts.udp.complete()
	return &udpTransport{
		network: s.network, opts: opts, srv: s, limit: min(opts.readLimit(), maxDatagram), ends: newMailbox(),
		wakeup: make(chan struct{}, 1), closed: make(chan struct{}), written: make(chan struct{}),
		door:     udpDoor{limits: opts.udp.limits, prefixes: map[udpPrefix]*udpSource{}},
		sessions: newUDPTable(),
	}, nil
}

func (t *udpTransport) Listen(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%w %q: want host:port or :port: %w", ErrBadAddress, addr, err)
	}
	pc, err := t.opts.listenConfig.ListenPacket(context.Background(), string(t.network), addr)
	switch {
	case err == nil:
	case atFault(err):
		return fmt.Errorf("%w %q: %w", ErrBadAddress, addr, err)
	default:
		return fmt.Errorf("server: listen on %s %q: %w", t.network, addr, err)
	}
	if udp, ok := pc.(*net.UDPConn); ok { // as much as the system allows
		_ = udp.SetReadBuffer(udpSocketBuffer)
		_ = udp.SetWriteBuffer(udpSocketBuffer)
	}
	return t.usePackets(pc)
}

// usePackets is packetUser's.
func (t *udpTransport) usePackets(pc net.PacketConn) error {
	t.pc, t.socket = pc, newUDPSocket(pc, t.limit+1)
	return nil
}

func (t *udpTransport) Addr() net.Addr { return t.pc.LocalAddr() }

// Close stops taking new sessions. The socket is closed when the last session has ended, or has had the time to.
func (t *udpTransport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pc == nil {
		return nil
	}
	if !t.serving {
		return closeOnce(t.pc)
	}
	if t.closeLocked() {
		t.patience = time.AfterFunc(t.opts.writeTimeout, func() { _ = closeOnce(t.pc) })
	}
	return nil
}

func (t *udpTransport) closeLocked() (first bool) {
	if t.closing {
		return false
	}
	t.closing = true
	close(t.closed)
	return true
}

func closeOnce(pc net.PacketConn) error {
	if err := pc.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Serve reads until Close, or until the socket is closed.
func (t *udpTransport) Serve(acceptor *Acceptor) error {
	t.mu.Lock()
	t.serving = true
	t.mu.Unlock()
	go t.ends.run()
	go t.write()
	err := t.read(acceptor)
	t.mu.Lock()
	t.closeLocked()
	t.mu.Unlock()
	t.dropAll(err)
	<-t.written
	t.ends.end()
	<-t.ends.ended
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.patience != nil {
		t.patience.Stop()
	}
	return err
}

// dropAll ends the sessions that are left when nothing is read any more: by err, or because the socket is closed.
func (t *udpTransport) dropAll(err error) {
	t.mu.Lock()
	left := t.sessions.clone()
	t.mu.Unlock()
	for _, s := range left {
		if err != nil {
			s.lose(err)
		} else {
			s.Close()
		}
	}
}

// read hands over what comes, until the socket is closed. Errors that datagrams cause, ICMP's for one, end nothing.
func (t *udpTransport) read(acceptor *Acceptor) error {
	pause := time.Duration(0)
	for {
		list, err := t.socket.read()
		switch {
		case err == nil:
			t.arrived(acceptor, list)
			pause = 0
		case errors.Is(err, net.ErrClosed):
			return nil
		case !passingUDP(err):
			return fmt.Errorf("server: read %s: %w", t.network, err)
		default:
			if pause > 0 { // it is not the first one in a row
				t.opts.logger.Warn("read failed, trying again", "network", t.network, "err", err, "pause", pause)
			}
			if !t.rest(pause) {
				return nil
			}
			pause = min(max(2*pause, firstAcceptPause), longAcceptPause)
		}
	}
}

// passingUDP reports whether reading may go on after err: whatever the system says but that the socket is gone.
func passingUDP(err error) bool {
	var errno syscall.Errno
	var timeout net.Error
	return errors.As(err, &errno) && errno != syscall.EBADF || errors.As(err, &timeout) && timeout.Timeout()
}

// rest waits for d, and reports false if the last session has ended meanwhile, after Close.
func (t *udpTransport) rest(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.written:
		return false
	}
}

// since is now, as times of the transport are, never 0.
func (t *udpTransport) since() time.Duration { return time.Since(t.srv.made) + 1 }

// arrived hands over datagrams that came with one read.
func (t *udpTransport) arrived(acceptor *Acceptor, list []datagram) {
	now, behind := t.since(), 0
	for _, d := range list {
		behind += len(d.data)
	}
	for _, d := range list {
		if behind -= len(d.data); len(d.data) > t.limit {
			t.srv.stats.oversized.Add(1)
			continue
		}
		s, first := t.find(d, now)
		switch {
		case s == nil:
		case !first:
			s.take(t.slab.Copy(d.data, behind))
		case acceptor.srv.accept(s):
			t.mu.Lock()
			s.heard = now
			t.mu.Unlock()
			s.open(t.slab.Copy(d.data, behind))
		default:
			t.refuse(s)
		}
	}
}

// find returns the session that d is of, which may be its first datagram, nil if there is none and can't be.
func (t *udpTransport) find(d datagram, now time.Duration) (s *udpSession, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.sessions.of(d.peer); s != nil {
		s.heard = now
		return s, false
	}
	switch {
	case t.closing:
		t.srv.stats.refusals.add(RefusedShutdown)
		return nil, false
	case t.sessions.rests(d.peer):
		t.srv.stats.discarded.Add(1)
		return nil, false
	}
	if refusal, ok := t.door.enter(d.peer.ip.Addr(), t.sessions.size(), now); !ok {
		t.srv.stats.refusals.add(refusal)
		return nil, false
	}
	s = newUDPSession(t, d)
	t.sessions.add(s)
	return s, true
}

// refuse forgets a session that the server has not taken.
func (t *udpTransport) refuse(s *udpSession) {
	t.mu.Lock()
	t.sessions.remove(s)
	t.door.leave(s.peer.ip.Addr())
	t.mu.Unlock()
	t.signal() // it may have been the last one
}

// signal wakes the writer.
func (t *udpTransport) signal() {
	select {
	case t.wakeup <- struct{}{}:
	default:
	}
}

// udpAddr is the address of a session, in the memory of its session.
type udpAddr netip.AddrPort

func (a *udpAddr) Network() string { return "udp" }
func (a *udpAddr) String() string  { return netip.AddrPort(*a).String() }
