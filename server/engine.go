package server

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/loop"
)

// Engine is what reads and writes a server's sockets.
type Engine int

const (
	// EngineAuto takes EngineLoops where that is possible, and EngineGoroutines elsewhere: for TLS, compression, an upgrader or
	// initializer of one's own, WithTransport, on other systems than Linux, and for servers that accept gateways' links.
	EngineAuto Engine = iota
	// EngineGoroutines has a goroutine for each connection. A handler that blocks harms its own connection only.
	EngineGoroutines
	// EngineLoops has few event loops (WithEventLoops), and no goroutine for a connection: less memory, fewer system calls. A
	// handler that blocks stops the connections of its loop.
	EngineLoops
)

// WithEngine chooses what reads and writes the server's sockets. Default EngineAuto. EngineLoops where that isn't possible is an
// error of Run.
func WithEngine(e Engine) Option {
	return func(s *Server) {
		if s.opts.engine = e; e < EngineAuto || e > EngineLoops {
			s.opts.refuse("engine %d", e)
		}
	}
}

// WithEventLoops sets how many event loops there are where the server uses them. 0, the default, is one for each two processors that
// the process may use (runtime.GOMAXPROCS), which leaves the others to the rest of it: more of them can do more at once, and make
// smaller batches.
func WithEventLoops(n int) Option {
	return func(s *Server) {
		if s.opts.eventLoops = n; n < 0 {
			s.opts.refuse("%d event loops", n)
		}
	}
}

// hindrance returns what keeps the server from using event loops, "" if nothing.
func (s *Server) hindrance() string {
	o := &s.opts
	switch {
	case !loop.Supported:
		return "event loops exist on Linux only, and where they were not left out (the build tag noloops)"
	case o.transport != nil || s.network == NetworkNone:
		return "WithTransport, or no network"
	case s.network.datagrams():
		return "UDP, which has no connections"
	case o.secured():
		return "TLS"
	case o.wsUpgrader != nil || o.wsInit != nil:
		return "an upgrader or initializer of one's own"
	case o.wsCompression != 0 || o.wsCompress:
		return "compression"
	}
	return ""
}

// startLoops starts the event loops of a Run, if there shall be any.
func (s *Server) startLoops() error {
	hindrance := s.hindrance()
	switch {
	case s.opts.engine == EngineGoroutines:
		return nil
	case s.opts.engine == EngineLoops && hindrance != "":
		s.opts.refuse("WithEngine(EngineLoops): %s", hindrance)
		return s.opts.err
	case s.opts.engine == EngineAuto && (hindrance != "" || s.layer != nil || s.opts.headroom > 0):
		return nil
	}
	n := s.opts.eventLoops
	if n == 0 {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	l, err := newLoops(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.loops = l
	return err
}

// stopLoops ends the loops when nothing is left on them but last words, and links that somebody else looks after.
func (s *Server) stopLoops() {
	s.mu.Lock()
	l := s.opts.loops
	s.opts.loops = nil
	s.mu.Unlock()
	if l != nil {
		l.release()
	}
}

// Loops returns the event loops of the Run going on, if there are any, for connections that shall be where the clients' are. They
// live until release is called, which has to be done.
func (s *Server) Loops() (all []*loop.Loop, release func()) {
	s.mu.Lock()
	l := s.opts.loops
	s.mu.Unlock()
	if l == nil || !l.use() {
		return nil, func() {}
	}
	for _, each := range l.all {
		all = append(all, each.Loop)
	}
	return all, sync.OnceFunc(l.release)
}

// loops are a server's event loops.
type loops struct {
	all []*serverLoop

	mu    sync.Mutex // guards serverLoop.conns, and the next
	users int        // of the loops; the last one stops them
}

// serverLoop is one of them.
type serverLoop struct {
	*loop.Loop
	loops *loops
	slab  frame.Slab // owned by the loop's goroutine
	conns int
}

func newLoops(n int) (*loops, error) {
	ls := &loops{users: 1}
	for range n {
		l, err := loop.New()
		if err != nil {
			ls.stop()
			return nil, err
		}
		ls.all = append(ls.all, &serverLoop{Loop: l, loops: ls})
	}
	return ls, nil
}

// use adds a user, while there is one.
func (ls *loops) use() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.users == 0 {
		return false
	}
	ls.users++
	return true
}

func (ls *loops) release() {
	ls.mu.Lock()
	ls.users--
	last := ls.users == 0
	ls.mu.Unlock()
	if last {
		ls.stop()
	}
}

// stop ends the loops, which last words may be under way on. It doesn't wait for handlers that don't return.
func (ls *loops) stop() {
	for _, l := range ls.all {
		l.Stop()
	}
	timer := time.NewTimer(2 * lingerTimeout)
	defer timer.Stop()
	for _, l := range ls.all {
		select {
		case <-l.Done():
		case <-timer.C:
			return
		}
	}
}

// least returns the loop with the fewest connections, which gets one more.
func (ls *loops) least() *serverLoop {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	least := ls.all[0]
	for _, l := range ls.all {
		if l.conns < least.conns {
			least = l
		}
	}
	least.conns++
	return least
}

func (ls *loops) left(l *serverLoop) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.conns--
}

// Loop returns the event loop that the connection is on, nil if it is on none.
func (c *Conn) Loop() *loop.Loop {
	if c.c.onLoop == nil {
		return nil
	}
	return c.c.onLoop.on.Loop
}

// loopClient is all that a connection on a loop needs, in one piece of memory. The protocol is ws, or it is another one.
type loopClient struct {
	connection
	loop loopConn
	ws   wsProtocol
}

// accept takes a plain socket that has come (see Server.come), and hands it over as a connection of one of the loops. It reports
// false for what no loop can have: then conn is as it was, for a goroutine to serve.
func (ls *loops) accept(a *Acceptor, conn net.Conn, ws *wsProtocol, other protocol, style *frame.Style) bool {
	if ls == nil || frame.SocketOf(bare(conn)) == nil {
		return false
	}
	remote := compact(conn.RemoteAddr())
	fd, err := loop.Detach(bare(conn))
	if err != nil { // the process is out of descriptors: conn has the last one
		a.srv.log().Debug("connection stays on a goroutine", "conn", remote.String(), "err", err)
		return false
	}
	c := &loopClient{connection: connection{addr: remote}, loop: loopConn{protocol: other, on: ls.least(), style: style}}
	if ws != nil {
		c.ws = *ws
		c.loop.protocol = &c.ws
	}
	c.loop.c = &c.connection
	c.loop.Init(c.loop.on.Loop, fd, &c.loop)
	a.srv.take(&c.loop)
	return true
}
