// Package gateway is an embeddable game gateway: it accepts players over WebSocket, TCP, UDP, KCP and Unix sockets, and carries
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
	more            []listening    // servers beside srv
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
	life      *life // the run begun last; nil: there was none
	stopScan  context.CancelFunc
	scanned   chan struct{} // closed when the scan loop has returned
	endpoints map[identity]*Endpoint
	evacuator *time.Timer

	loops        []*loop.Loop // of the servers, on which links may be
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
	for _, each := range g.Servers() {
		if each != nil {
			g.register(each)
		}
	}
	return g
}

// register ties the gateway to a server. A session is there before, and until after, anybody else's handlers run.
func (g *Gateway) register(srv *server.Server) {
	srv.RegStopEvent(func(*server.Server) { g.beginClosing() }, math.MinInt)
	if srv == g.srv { // which is started last
		srv.RegStartFinishEvent(func(*server.Server) { g.startScanning() }, math.MinInt)
	}
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
