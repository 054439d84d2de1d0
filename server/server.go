// Package server accepts clients over WebSocket, TCP, UDP and Unix sockets, and over transports of one's own, and hands their packets,
// whole whatever the transport, to registered handlers. It is the lower half of a gateway, and the whole of a hand-written endpoint.
//
// Handlers of one connection run one at a time and in order: opened, packets, closed. Handlers of different
// connections run in parallel unless WithSerialHandlers is given. They run on the goroutine or event loop that reads the connection
// (WithEngine) and should not block: on a loop that stops others too. WithAsyncHandlers gives each connection a goroutine of its own
// for that.
package server

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Server accepts connections. Its methods may be called from any goroutine, handlers included; none of them but Run blocks.
type Server struct {
	network Network
	opts    options // static after New
	events  events
	stats   counters
	layer   Layer // static after SetLayer; nil: every connection is a client
	made    time.Time
	door    door

	maxWrite int // bytes of the largest packet that is written; static after New

	stop     chan struct{} // closed by Shutdown
	stopOnce sync.Once

	mu         sync.Mutex // guards the rest
	running    bool
	accepting  bool
	life       *life       // of the run begun last; nil: there was none
	transports []Transport // of the run going on, its own first
	upgrader   *upgrader   // of requests that ServeHTTP brings; nil: there were none
	online     map[string]*connection
	apart      map[string]*connection // links, and connections of which it isn't known yet what they are
	serial     uint64                 // numbers connections without an address
	answers    int                    // refusals that are being told
	serving    sync.WaitGroup
	box        *mailbox // WithSerialHandlers: of the Run going on
}

// New returns a Server for network, configured by options. It panics on a network that GetNetworks doesn't list, as the
// original did; other mistakes are errors of Run.
func New(network Network, options ...Option) *Server {
	if !slices.Contains(networks, network) {
		panic(fmt.Errorf("server: unknown network %q: one of %v", string(network), networks))
	}
	s := &Server{network: network, opts: defaultOptions(), made: time.Now(), stop: make(chan struct{}), online: map[string]*connection{}, apart: map[string]*connection{}}
	for _, option := range options {
		if option != nil {
			option(s)
		}
	}
	s.maxWrite = max(maxWriteSize, s.opts.queueBytes)
	if s.network.datagrams() && s.opts.transport == nil {
		s.maxWrite = maxDatagram
	}
	return s
}

// GetNetwork returns the network that New was given.
func (s *Server) GetNetwork() Network { return s.network }

// IsSocket reports whether connections come over the server's network.
func (s *Server) IsSocket() bool { return s.network.IsSocket() }

// Addr returns where the server listens, nil while it doesn't: after Run(":0") the port that was chosen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.transports) == 0 {
		return nil
	}
	return s.transports[0].Addr()
}

// GetOnline returns the live connection with this ID, nil if there is none.
func (s *Server) GetOnline(id string) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.online[id]; ok {
		return c.detached()
	}
	return nil
}

// GetOnlineCount returns how many connections are live.
func (s *Server) GetOnlineCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.online)
}

// GetOnlineAll returns the live connections by ID, in a map of the caller's own.
func (s *Server) GetOnlineAll() map[string]*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]*Conn, len(s.online))
	for id, c := range s.online {
		all[id] = c.detached()
	}
	return all
}

// IsOnline reports whether a connection with this ID is live.
func (s *Server) IsOnline(id string) bool { return s.GetOnline(id) != nil }

// CloseConn closes the connection with this ID, as its Close does. An unknown ID changes nothing.
func (s *Server) CloseConn(id string) {
	if conn := s.GetOnline(id); conn != nil {
		conn.Close()
	}
}

// Broadcast writes packet to every live connection for which all filters return true. Filters run on the caller's goroutine.
func (s *Server) Broadcast(packet []byte, filter ...func(conn *Conn) bool) {
	for _, conn := range s.GetOnlineAll() {
		if !slices.ContainsFunc(filter, func(f func(*Conn) bool) bool { return f != nil && !f(conn) }) {
			conn.Write(packet)
		}
	}
}

// Stats are a server's counters since it was made.
type Stats struct {
	Opened, Closed     uint64             // connections
	PacketsReceived    uint64             // whole packets read
	PacketsWritten     uint64             // handed to the kernel
	PacketsAborted     uint64             // kept from later handlers by a preprocess handler's abort
	WritesFailed       uint64             // packets given to Write that were not written; their callbacks got the error
	SlowConsumers      uint64             // connections closed because their outbound queue was full
	MailboxesFull      uint64             // connections closed because they sent faster than they were handled
	RateLimited        uint64             // connections closed because they sent more than WithPacketRate or WithByteRate let them
	PacketsTooLarge    uint64             // connections closed because of one
	PacketsDiscarded   uint64             // read from connections that were closing already
	DatagramsTooLarge  uint64             // read and dropped: above WithMaxPacketSize, on UDP
	HandlerPanics      uint64             // recovered
	ConnectionsRefused uint64             // not let in, for whatever reason
	Refusals           map[Refusal]uint64 // of these, by reason; reasons that never were are missing
}

type counters struct {
	opened, closed, oversized, received, written, aborted, failed, slow, mailbox, tooFast, tooLarge, discarded, panics atomic.Uint64

	refusals refusalCounters
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.stats
	refusals, refused := c.refusals.all()
	return Stats{
		Opened: c.opened.Load(), Closed: c.closed.Load(), PacketsReceived: c.received.Load(),
		PacketsWritten: c.written.Load(), PacketsAborted: c.aborted.Load(), WritesFailed: c.failed.Load(),
		SlowConsumers: c.slow.Load(), MailboxesFull: c.mailbox.Load(), RateLimited: c.tooFast.Load(), PacketsTooLarge: c.tooLarge.Load(), PacketsDiscarded: c.discarded.Load(),
		DatagramsTooLarge: c.oversized.Load(), HandlerPanics: c.panics.Load(), ConnectionsRefused: refused, Refusals: refusals,
	}
}

func (s *Server) log() *slog.Logger { return s.opts.logger }

// accept lets pc in, and reports false where it was refused, and closed.
func (s *Server) accept(pc PacketConn) bool {
	if r := s.come(pc.RemoteAddr()); r != "" {
		s.turnAway(pc, r)
		return false
	}
	return s.take(pc)
}

// take registers pc, which has arrived and entered, and starts its goroutine. It reports false where pc was refused, and closed.
func (s *Server) take(pc PacketConn) bool {
	c := newConnection(s, pc)
	s.mu.Lock()
	if !s.accepting {
		s.mu.Unlock()
		s.stats.refusals.add(RefusedShutdown)
		s.goAway(c.addr)
		c.abandon()
		return false
	}
	c.id = s.newIDLocked(c.addr)
	s.giveBoxLocked(c)
	s.apart[c.id] = c
	if s.layer == nil && s.opts.admit == nil {
		s.admitLocked(c)
	}
	s.serving.Add(1)
	s.mu.Unlock()
	switch pc := pc.(type) {
	case *loopConn:
		pc.Enroll()
	case *udpSession: // its transport opens it
	default:
		go c.serve()
	}
	return true
}

// giveBoxLocked gives a connection the mailbox that its handlers run from, if they do.
func (s *Server) giveBoxLocked(c *connection) {
	c.box = s.box
	if s.opts.async && c.box == nil {
		c.box, c.ownBox = newMailbox(), true
	}
}

// admit makes a connection a client that is online.
func (s *Server) admit(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitLocked(c)
}

func (s *Server) admitLocked(c *connection) {
	delete(s.apart, c.id)
	s.online[c.id] = c
	c.client.Store(true)
	s.stats.opened.Add(1)
}

// newIDLocked returns the remote address, or a numbered name where that says nothing or is taken by a connection that has not quite ended.
func (s *Server) newIDLocked(addr net.Addr) string {
	network, id := string(s.network), ""
	if addr != nil {
		network, id = addr.Network(), addr.String()
	}
	nameless := id == "" || id == "@" || network == "unix" || network == "pipe"
	if !nameless && s.online[id] == nil && s.apart[id] == nil {
		return id
	}
	s.serial++
	if nameless {
		return network + ":" + strconv.FormatUint(s.serial, 10)
	}
	return id + "#" + strconv.FormatUint(s.serial, 10)
}

// forget removes a connection that has ended.
func (s *Server) forget(c *connection) {
	s.mu.Lock()
	delete(s.online, c.id)
	delete(s.apart, c.id)
	s.mu.Unlock()
	if c.client.Load() {
		s.stats.closed.Add(1)
	}
	if c.carried == nil {
		if !c.exempt {
			s.leave(c.addr)
		}
		s.depart()
	}
	s.serving.Done()
}
