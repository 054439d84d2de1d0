// Package gateway is an embeddable game gateway: it accepts players over WebSocket, TCP and Unix sockets, and carries
// their packets over a few pooled links to named game servers, the endpoints, that a scanner finds. It scores endpoints by
// measured delay, chooses by that score, keeps a player on its endpoint and moves players while they play.
//
// NewGateway's example is a whole gateway, NewBackend's an endpoint that knows its players, MarshalGatewayInPacket's one that is
// written by hand with the two codecs. PROTOCOL.md has what goes over the links.
package gateway

// Locks are taken in this order: session.mu, Endpoint.mu, Gateway.mu; keyring.mu and the queues' own come last. None is
// held while calling a handler, dialing or writing.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

// Gateway carries packets between the clients of a server and the endpoints that a scanner finds. Its methods may be
// called from any goroutine, handlers included; only Run and ShutdownContext block.
type Gateway struct {
	srv             *server.Server // static after NewGateway, as are the next ones up to attributes
	scanner         Scanner
	selector        EndpointSelector
	log             *slog.Logger
	shutdownTimeout time.Duration
	started         time.Time
	bad             error // an option's bad value
	instance        instanceID
	name            string
	attributes      func(conn *server.Conn) map[string]string

	events events
	counts counts
	drops  sync.WaitGroup // endpoints that are being closed
	keys   *keyring
	names  atomic.Pointer[map[string][]*Endpoint] // who may be chosen, immutable, rebuilt when it changes

	batches  atomic.Uint64 // of packets that links read at once, counted
	attaches atomic.Uint32 // OPENs sent: their numbers go up from session to session too, as keys are used again
	winding  atomic.Bool   // the server is closing its connections

	mu        sync.Mutex // guards the rest
	running   bool
	closed    bool
	ended     chan struct{} // closed when the last Run has returned; nil while none goes on
	stopScan  context.CancelFunc
	scanned   chan struct{} // closed when the scan loop has returned
	endpoints map[identity]*Endpoint
	evacuator *time.Timer

	loops        []*loop.Loop // of the server, on which links may be
	releaseLoops func()
}

// identity is what makes two endpoints the same.
type identity struct{ name, address string }

// NewGateway returns a gateway for the clients of srv and the endpoints of scanner. It registers its handlers with srv,
// which belongs to the gateway from then on; srv is run by Run.
func NewGateway(srv *server.Server, scanner Scanner, options ...Option) *Gateway {
	g := &Gateway{
		srv: srv, scanner: scanner, selector: selectWeighted, log: slog.Default(),
		shutdownTimeout: DefaultShutdownTimeout, started: time.Now(), keys: newKeyring(), instance: newInstance(), endpoints: map[identity]*Endpoint{},
	}
	g.names.Store(&map[string][]*Endpoint{})
	for _, option := range options {
		if option != nil {
			option(g)
		}
	}
	if srv != nil {
		g.register(srv)
	}
	return g
}

// register ties the gateway to its server. A session is there before, and until after, anybody else's handlers run.
func (g *Gateway) register(srv *server.Server) {
	srv.RegStopEvent(func(*server.Server) { g.beginClosing() }, math.MinInt)
	srv.RegStartFinishEvent(func(*server.Server) { g.startScanning() }, math.MinInt)
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { g.openSession(conn) }, math.MinInt)
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { g.OnConnectionOpenedEvent(conn) })
	srv.RegConnectionCongestedEvent(func(_ *server.Server, conn *server.Conn, _ bool) { g.congested(conn) })
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		g.counts.add(received)
		g.OnConnectionReceivePacketEvent(conn, packet)
	})
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { g.silenceSession(conn) }, math.MinInt)
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { g.OnConnectionClosedEvent(conn) })
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { g.closeSession(conn) }, math.MaxInt)
}

// now is the gateway's own monotonic clock, in nanoseconds since its start, and never 0.
func (g *Gateway) now() int64 { return int64(time.Since(g.started)) + 1 }

// Run listens on addr, as server.Run does, and carries packets until Shutdown, then returns nil; or until a fatal error,
// after which it may be called again. Errors: ErrGatewayRunning, ErrGatewayClosed, ErrBadOption, ErrShutdownTimeout, and
// those of server.Run.
func (g *Gateway) Run(addr string) error {
	if err := g.begin(); err != nil {
		return err
	}
	err := g.srv.Run(addr)
	stopErr := g.wind()
	if errors.Is(err, server.ErrServerClosed) {
		err = ErrGatewayClosed
	}
	g.finish(err)
	if stopErr == nil {
		return err // as it is: it may be compared
	}
	return errors.Join(err, stopErr)
}

func (g *Gateway) begin() error {
	switch {
	case g.srv == nil:
		return fmt.Errorf("%w: no server", ErrBadOption)
	case g.scanner == nil:
		return fmt.Errorf("%w: no scanner", ErrBadOption)
	case g.bad != nil:
		return g.bad
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return ErrGatewayClosed
	case g.running:
		return ErrGatewayRunning
	}
	g.running, g.ended = true, make(chan struct{})
	g.winding.Store(false)
	return nil
}

func (g *Gateway) finish(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil || errors.Is(err, ErrGatewayClosed) { // the server was shut down, which is the same
		g.closed = true
	}
	g.running = false
	close(g.ended)
}

// startScanning begins to look for endpoints, once the server listens.
func (g *Gateway) startScanning() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		return // somebody runs the server without its gateway
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.stopScan, g.scanned = cancel, make(chan struct{})
	g.loops, g.releaseLoops = g.srv.Loops()
	go g.scanLoop(ctx, g.scanned)
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
	g.winding.Store(true)
	g.goaway()
}

// Shutdown makes Run close clients and links and return. It doesn't wait, may be called at any time, twice, and from a
// handler. Server().Shutdown() does the same.
func (g *Gateway) Shutdown() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	if g.srv != nil {
		g.srv.Shutdown()
	}
}

// ShutdownContext is Shutdown that waits until Run has returned, or for ctx, whose error it returns then. From a handler
// only ctx can end it.
func (g *Gateway) ShutdownContext(ctx context.Context) error {
	g.Shutdown()
	g.mu.Lock()
	ended := g.ended
	g.mu.Unlock()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Server returns the server that NewGateway was given.
func (g *Gateway) Server() *server.Server { return g.srv }

// Endpoints iterates over all endpoints that are known, dead and retired ones too, ordered by name and address.
func (g *Gateway) Endpoints() iter.Seq[*Endpoint] {
	g.mu.Lock()
	all := make([]*Endpoint, 0, len(g.endpoints))
	for _, e := range g.endpoints {
		all = append(all, e)
	}
	g.mu.Unlock()
	slices.SortFunc(all, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.address, b.address))
	})
	return slices.Values(all)
}

// usable returns the endpoints of this name that may be chosen, or ErrEndpointNotExists.
func (g *Gateway) usable(name string) ([]*Endpoint, error) {
	endpoints := (*g.names.Load())[name]
	if slices.ContainsFunc(endpoints, func(e *Endpoint) bool { return !e.usable() }) {
		g.rebuild() // one of them has just died, and whoever noticed is about to do the same
		endpoints = (*g.names.Load())[name]
	}
	if len(endpoints) == 0 {
		return nil, ErrEndpointNotExists
	}
	return endpoints, nil
}

// GetEndpoint returns a usable endpoint of this name that the selector chose, or ErrEndpointNotExists. Those whose backend is
// draining, and retired ones, are not usable for new connections. Links come up after Run, and after an outage: until then there
// is none; RegEndpointConnectOpenedEventHandle tells.
func (g *Gateway) GetEndpoint(name string) (*Endpoint, error) {
	endpoints, err := g.usable(name)
	if err != nil {
		return nil, err
	}
	var chosen *Endpoint
	g.guard("selector", func() { chosen = g.selector(endpoints) })
	if chosen == nil || !slices.Contains(endpoints, chosen) {
		g.log.Debug("the selector chose none", "name", name, "endpoints", len(endpoints))
		return nil, ErrEndpointNotExists
	}
	return chosen, nil
}

// GetEndpointByKey returns the usable endpoint of this name that key belongs to, or ErrEndpointNotExists. The same key
// gives the same endpoint, in every gateway; when endpoints come or go, only their share of the keys moves, and who is bound
// already stays unless MoveConn moves it. The selector is not asked.
func (g *Gateway) GetEndpointByKey(name, key string) (*Endpoint, error) {
	endpoints, err := g.usable(name)
	if err != nil {
		return nil, err
	}
	return rendezvous(endpoints, key), nil
}

// GetConnEndpoint returns the endpoint that conn is bound to under this name while one of its links is up, and else what
// GetEndpoint returns. Forward binds, this doesn't.
func (g *Gateway) GetConnEndpoint(name string, conn *server.Conn) (*Endpoint, error) {
	if s := g.sessionOf(conn); s != nil {
		if e := s.boundTo(name); e != nil && e.usable() {
			return e, nil
		}
	}
	return g.GetEndpoint(name)
}

// SwitchEndpoint moves every connection that is bound to source over to dest: later packets go to dest, and dest may send to
// them. For a second, packets forwarded to source go to dest. Between backends (NewBackend) each session's state goes with it,
// and nothing is lost, doubled or reordered; a plain source's replies are delivered for one more second, beside dest's.
// Both must have the same name. A dest that is source, dead or unknown to the gateway changes nothing, and so does another
// gateway's source; a dead source is fine.
func (g *Gateway) SwitchEndpoint(source, dest *Endpoint) {
	if source == nil || dest == nil || source == dest || source.name != dest.name || !dest.usable() || dest.gw.Load() != g {
		return
	}
	if owner := source.gw.Load(); owner != nil && owner != g {
		return
	}
	moved := 0
	for _, s := range source.sessions() {
		g.askAttributes(s, s.conn, dest)
		if s.move(source, dest, nil) {
			moved++
		}
	}
	g.log.Info("connections moved", "name", source.name, "from", source.address, "to", dest.address, "connections", moved)
}

// rebuild makes the list of those who may be chosen anew.
func (g *Gateway) rebuild() {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := map[string][]*Endpoint{}
	for _, e := range g.endpoints {
		if e.usable() && !e.retired.Load() && !e.Draining() {
			names[e.name] = append(names[e.name], e)
		}
	}
	for _, endpoints := range names {
		slices.SortFunc(endpoints, func(a, b *Endpoint) int { return cmp.Compare(a.address, b.address) })
	}
	g.names.Store(&names)
}
