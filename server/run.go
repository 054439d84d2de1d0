package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// life is one run of a server, from Start to what Wait returns.
type life struct {
	ctx      context.Context
	prepared chan struct{} // closed when accepts is final
	accepts  bool          // it has come as far as that; guarded by Server.mu until then
	served   chan error    // why the transport of the run can't go on; nil: there is none
	ended    chan struct{} // closed when err is final
	err      error
}

// Run listens on addr and serves until Shutdown, then returns nil; or until a fatal error, after which it may be called
// again. addr is "host:port" or ":port", for WebSocket with an optional path behind it (":8888/ws"; without one every
// path is served), for Unix sockets a path in the file system. Errors: ErrServerRunning, ErrServerClosed,
// ErrBadAddress, ErrBadOption, ErrNetworkUnsupported, ErrNotDeadSocket, ErrShutdownTimeout, and those of the network
// (a port in use). It installs no signal handlers.
func (s *Server) Run(addr string) error { return s.RunContext(context.Background(), addr) }

// RunContext is Run that ends with ctx too: connections are closed as by Shutdown, nil is returned, and the server may be run again.
func (s *Server) RunContext(ctx context.Context, addr string) error {
	return s.run(ctx, source{addr: addr})
}

// Start is RunContext that returns as soon as the server listens; Wait returns what RunContext would have. With no addr it listens
// nowhere by itself: connections come from Serve, ServePacket or ServeHTTP. More than one is ErrBadAddress.
func (s *Server) Start(ctx context.Context, addr ...string) error {
	src := source{none: len(addr) == 0}
	if len(addr) > 1 {
		return fmt.Errorf("%w: %d of them, %q: a server listens on one", ErrBadAddress, len(addr), addr)
	} else if len(addr) == 1 {
		src.addr = addr[0]
	}
	l, err := s.start(ctx, src)
	if err != nil {
		return err
	}
	go s.live(l)
	return nil
}

// Wait blocks until the run that was begun last has ended, and returns its outcome: nil after Shutdown or the end of Start's
// context. It returns nil at once if there was none.
func (s *Server) Wait() error {
	s.mu.Lock()
	l := s.life
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	<-l.ended
	return l.err
}

func (s *Server) run(ctx context.Context, src source) error {
	l, err := s.start(ctx, src)
	if err != nil {
		return err
	}
	s.live(l)
	return l.err
}

// start does what comes before the first connection.
func (s *Server) start(ctx context.Context, src source) (*life, error) {
	l, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(l, src); err != nil {
		s.stopLoops()
		s.finish(l, err)
		return nil, err
	}
	s.started()
	return l, nil
}

// prepare makes the server accept from src.
func (s *Server) prepare(l *life, src source) error {
	if err := s.opts.check(); err != nil {
		return err
	}
	if layer, ok := s.layer.(interface{ Err() error }); ok && layer.Err() != nil {
		return fmt.Errorf("%w: %w", ErrBadOption, layer.Err())
	}
	if err := s.vetProxies(); err != nil {
		return err
	}
	if err := s.startLoops(); err != nil {
		return err
	}
	if src.none || s.network == NetworkNone && s.opts.transport == nil && !src.listens() {
		fire(s, "StartBefore", s.events.startBefore.All())
		s.open(l, nil)
		return nil
	}
	transport, err := s.newTransport()
	if err != nil {
		return err
	}
	fire(s, "StartBefore", s.events.startBefore.All())
	if err := s.listenOn(transport, src); err != nil {
		return err
	}
	s.open(l, transport)
	l.served = make(chan error, 1)
	s.serving.Go(func() { l.served <- transport.Serve(&Acceptor{srv: s}) })
	return nil
}

// live waits for the end of a run, and brings it about.
func (s *Server) live(l *life) {
	fatal := s.wait(l)
	err := s.wind(fatal)
	s.stopLoops()
	s.finish(l, err)
}

// Shutdown makes Run close every connection and return. It doesn't wait, may be called at any time, twice, and from a
// handler. Connections get what was written to them before, and a close frame (1001) where there is such a thing.
func (s *Server) Shutdown() { s.stopOnce.Do(func() { close(s.stop) }) }

func (s *Server) begin(ctx context.Context) (*life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return nil, ErrServerRunning
	}
	select {
	case <-s.stop:
		return nil, ErrServerClosed
	default:
	}
	s.running = true
	s.life = &life{ctx: ctx, prepared: make(chan struct{}), ended: make(chan struct{})}
	return s.life, nil
}

func (s *Server) finish(l *life, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	if l.err = err; !l.accepts {
		close(l.prepared)
	}
	close(l.ended)
}

func (s *Server) open(l *life, transport Transport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.accepts = true
	close(l.prepared)
	if s.accepting = true; transport != nil {
		s.transports = []Transport{transport}
	}
	if s.opts.serial {
		s.box = newMailbox()
		go s.box.run()
	}
}

func (s *Server) started() {
	fire(s, "StartFinish", s.events.startFinish.All())
	fire(s, "MessageReady", s.events.messageReady.All())
}

// wait blocks until Shutdown, the end of the run's context or of the server's life, or the transport's fatal error, which it returns.
func (s *Server) wait(l *life) error {
	var life <-chan time.Time
	if s.opts.limitLife > 0 {
		timer := time.NewTimer(s.opts.limitLife)
		defer timer.Stop()
		life = timer.C
	}
	select {
	case <-s.stop:
	case <-l.ctx.Done():
	case <-life:
		s.Shutdown()
	case err := <-l.served:
		return err
	}
	return nil
}

// wind stops accepting, closes every connection and joins every goroutine.
func (s *Server) wind(fatal error) error {
	fire(s, "Stop", s.events.stop.All())
	s.mu.Lock()
	s.accepting = false
	conns := slices.Concat(slices.Collect(maps.Values(s.online)), slices.Collect(maps.Values(s.apart))) // links last
	box, transports := s.box, slices.Clone(s.transports)
	s.box, s.transports, s.upgrader = nil, nil, nil
	s.mu.Unlock()
	for _, transport := range transports {
		// Beside the connections: it may wait for what handlers of its own are doing.
		s.serving.Go(func() { s.closeTransport(transport) })
	}
	for _, c := range conns {
		c.close(closeReason{err: ErrGoingAway, code: codeGoingAway})
	}
	err := s.join(conns, box)
	return errors.Join(fatal, err)
}

func (s *Server) closeTransport(transport Transport) {
	if err := transport.Close(); err != nil {
		s.log().Warn("close transport", "network", s.network, "err", err)
	}
}

// join waits for the transport, the connections and then the mailbox of all of them, if there is one, and no longer than
// the shutdown timeout before it cuts them off.
func (s *Server) join(conns []*connection, box *mailbox) error {
	ended := make(chan struct{})
	go waitFor(&s.serving, box, ended)
	timer := time.NewTimer(s.opts.shutdown)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	for _, c := range conns {
		c.cut(ErrGoingAway)
	}
	timer.Reset(lingerTimeout)
	select {
	case <-ended:
		return nil
	case <-timer.C:
		return ErrShutdownTimeout
	}
}

// waitFor may outlive Run, by as much as handlers do.
func waitFor(wg *sync.WaitGroup, box *mailbox, ended chan struct{}) {
	wg.Wait()
	if box != nil {
		box.end()
		<-box.ended
	}
	close(ended)
}
