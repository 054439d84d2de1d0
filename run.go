package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

// life is one run of a gateway, from Start to what Wait returns.
type life struct {
	ctx     context.Context
	servers context.Context // ends with ctx, and when one of the servers has ended
	cancel  context.CancelFunc
	ended   chan struct{} // closed when err is final
	err     error
}

// Run listens on addr, as server.Run does, and carries packets until Shutdown, then returns nil; or until a fatal error,
// after which it may be called again. Errors: ErrGatewayRunning, ErrGatewayClosed, ErrBadOption, ErrShutdownTimeout, and
// those of server.Run.
func (g *Gateway) Run(addr string) error { return g.RunContext(context.Background(), addr) }

// RunContext is Run that ends with ctx too: clients and links are closed as by Shutdown, nil is returned, and the gateway may be run
// again.
func (g *Gateway) RunContext(ctx context.Context, addr string) error {
	l, err := g.start(ctx, []string{addr})
	if err != nil {
		return err
	}
	<-l.ended
	return l.err
}

// Start is RunContext that returns as soon as the gateway listens; Wait returns what RunContext would have. With no addr the server that
// NewGateway was given listens nowhere by itself: clients come from its Serve, ServePacket or ServeHTTP.
func (g *Gateway) Start(ctx context.Context, addr ...string) error {
	_, err := g.start(ctx, addr)
	return err
}

func (g *Gateway) start(ctx context.Context, addr []string) (*life, error) {
	l, err := g.begin(ctx)
	if err != nil {
		return nil, err
	}
	started, err := g.startServers(l, addr)
	if err != nil {
		l.cancel()
		for _, srv := range started {
			err = errors.Join(err, srv.Wait())
		}
		return nil, g.finish(l, err, g.wind())
	}
	go g.live(l)
	return l, nil
}

// Wait blocks until the run that was begun last has ended, and returns its outcome: nil after Shutdown or the end of Start's
// context. It returns nil at once if there was none.
func (g *Gateway) Wait() error {
	g.mu.Lock()
	l := g.life
	g.mu.Unlock()
	if l == nil {
		return nil
	}
	<-l.ended
	return l.err
}

func (g *Gateway) begin(ctx context.Context) (*life, error) {
	switch {
	case g.srv == nil:
		return nil, fmt.Errorf("%w: no server", ErrBadOption)
	case g.scanner == nil:
		return nil, fmt.Errorf("%w: no scanner", ErrBadOption)
	case g.bad != nil:
		return nil, g.bad
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, ErrGatewayClosed
	case g.running:
		return nil, ErrGatewayRunning
	}
	servers, cancel := context.WithCancel(ctx)
	g.running, g.life = true, &life{ctx: ctx, servers: servers, cancel: cancel, ended: make(chan struct{})}
	g.winding.Store(false)
	return g.life, nil
}

// startServers starts all of them, and returns those that are started. The first one is last: it begins to look for endpoints.
func (g *Gateway) startServers(l *life, addr []string) (started []*server.Server, err error) {
	for _, m := range g.more {
		if err := m.srv.Start(l.servers, m.addr); err != nil {
			return started, fmt.Errorf("gateway: server %q: %w", m.addr, err)
		}
		started = append(started, m.srv)
	}
	if err := g.srv.Start(l.servers, addr...); err != nil {
		return started, err
	}
	return append(started, g.srv), nil
}

// live waits for the end of a run. Where one server ends, all do.
func (g *Gateway) live(l *life) {
	servers := g.Servers()
	outcomes := make(chan error, len(servers))
	for _, srv := range servers {
		go func() { outcomes <- srv.Wait() }()
	}
	var err error
	for range servers {
		outcome := <-outcomes
		l.cancel()
		if err == nil {
			err = outcome
		} else {
			err = errors.Join(err, outcome)
		}
	}
	_ = g.finish(l, err, g.wind()) // which Wait returns
}

// finish ends a run, and returns its outcome.
func (g *Gateway) finish(l *life, err, stopErr error) error {
	if errors.Is(err, server.ErrServerClosed) {
		err = ErrGatewayClosed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && l.ctx.Err() == nil || errors.Is(err, ErrGatewayClosed) { // a server was shut down, which is the same
		g.closed = true
	}
	if l.err = err; stopErr != nil {
		l.err = errors.Join(err, stopErr)
	}
	g.running = false
	close(l.ended)
	return l.err // as it is: it may be compared
}

// startScanning begins to look for endpoints, once the servers listen.
func (g *Gateway) startScanning() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		return // somebody runs the server without its gateway
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.stopScan, g.scanned = cancel, make(chan struct{})
	g.loops, g.releaseLoops = g.serverLoops()
	go g.scanLoop(ctx, g.scanned)
}

// serverLoops returns the event loops of all servers.
func (g *Gateway) serverLoops() (all []*loop.Loop, release func()) {
	var releases []func()
	for _, srv := range g.Servers() {
		loops, release := srv.Loops()
		all, releases = append(all, loops...), append(releases, release)
	}
	return all, func() {
		for _, release := range releases {
			release()
		}
	}
}

// wind stops scanning, then flushes and closes the links.
func (g *Gateway) wind() error {
	g.mu.Lock()
	stop, scanned, release := g.stopScan, g.scanned, g.releaseLoops
	g.stopScan, g.scanned, g.releaseLoops = nil, nil, nil
	g.mu.Unlock()
	if stop == nil {
		return nil
	}
	defer release()
	stop()
	scanner := within(g.shutdownTimeout/2, func() { <-scanned })
	links := within(g.shutdownTimeout/2, g.dropAll)
	return errors.Join(scanner, links)
}

// within runs wait on a goroutine of its own, and gives it d.
func within(d time.Duration, wait func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return ErrShutdownTimeout
	}
}

// dropAll gives every endpoint up, all at once.
func (g *Gateway) dropAll() {
	for e := range g.Endpoints() {
		g.drop(e)
	}
	g.drops.Wait()
}

// beginClosing notes that clients go because the gateway does, and tells the backends.
func (g *Gateway) beginClosing() {
	if !g.winding.Swap(true) {
		g.goaway()
	}
}

// Shutdown makes Run close clients and links and return. It doesn't wait, may be called at any time, twice, and from a
// handler. Server().Shutdown() does the same.
func (g *Gateway) Shutdown() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for _, srv := range g.Servers() {
		if srv != nil {
			srv.Shutdown()
		}
	}
}

// ShutdownContext is Shutdown that waits until Run has returned, or for ctx, whose error it returns then. From a handler
// only ctx can end it.
func (g *Gateway) ShutdownContext(ctx context.Context) error {
	g.Shutdown()
	g.mu.Lock()
	l := g.life
	g.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
