package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Run listens on addr and serves until Shutdown, then returns nil; or until a fatal error, after which it may be called
// again. addr is "host:port" or ":port", for WebSocket with an optional path behind it (":8888/ws"; without one every
// path is served), for Unix sockets a path in the file system. Errors: ErrServerRunning, ErrServerClosed,
// ErrBadAddress, ErrBadOption, ErrNetworkUnsupported, ErrNotDeadSocket, ErrShutdownTimeout, and those of the network
// (a port in use). It installs no signal handlers.
func (s *Server) Run(addr string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.finish()
	if s.opts.err != nil {
		return s.opts.err
	}
	if l, ok := s.layer.(interface{ Err() error }); ok && l.Err() != nil {
		return fmt.Errorf("%w: %w", ErrBadOption, l.Err())
	}
	if err := s.startLoops(); err != nil {
		return err
	}
	defer s.stopLoops()
	transport, err := s.newTransport()
	if err != nil {
		return err
	}
	fire(s, "StartBefore", s.events.startBefore.All())
	if transport == nil {
		s.open(nil)
		s.started()
		return s.wind(nil, s.wait(nil))
	}
	if err := transport.Listen(addr); err != nil {
		return errors.Join(err, transport.Close())
	}
	s.open(transport)
	served := make(chan error, 1)
	s.serving.Go(func() { served <- transport.Serve(&Acceptor{srv: s}) })
	s.started()
	fatal := s.wait(served)
	return s.wind(transport, fatal)
}

// Shutdown makes Run close every connection and return. It doesn't wait, may be called at any time, twice, and from a
// handler. Connections get what was written to them before, and a close frame (1001) where there is such a thing.
func (s *Server) Shutdown() { s.stopOnce.Do(func() { close(s.stop) }) }

func (s *Server) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return ErrServerRunning
	}
	select {
	case <-s.stop:
		return ErrServerClosed
	default:
	}
	s.running = true
	return nil
}

func (s *Server) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
}

func (s *Server) open(transport Transport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transport, s.accepting = transport, true
	if s.opts.serial {
		s.box = newMailbox()
		go s.box.run()
	}
}

func (s *Server) started() {
	fire(s, "StartFinish", s.events.startFinish.All())
	fire(s, "MessageReady", s.events.messageReady.All())
}

// wait blocks until Shutdown, the end of the server's life, or the transport's fatal error, which it returns.
func (s *Server) wait(served chan error) error {
	var life <-chan time.Time
	if s.opts.limitLife > 0 {
		timer := time.NewTimer(s.opts.limitLife)
		defer timer.Stop()
		life = timer.C
	}
	select {
	case <-s.stop:
	case <-life:
		s.Shutdown()
	case err := <-served:
		return err
	}
	return nil
}

// wind stops accepting, closes every connection and joins every goroutine.
func (s *Server) wind(transport Transport, fatal error) error {
	fire(s, "Stop", s.events.stop.All())
	s.mu.Lock()
	s.accepting = false
	conns := slices.Concat(slices.Collect(maps.Values(s.online)), slices.Collect(maps.Values(s.apart))) // links last
	box := s.box
	s.box = nil
	s.mu.Unlock()
	if transport != nil {
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
