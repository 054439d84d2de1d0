package gateway

import (
	"context"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

// Endpoint is one target service; name and address are its identity. Its methods may be called from any goroutine, and
// don't block.
type Endpoint struct {
	name      string // static after NewEndpoint, as are the next ones up to bad
	address   string
	template  *client.Client // never run: each link is a clone
	evaluator func(costUnixNano float64) float64
	poolSize  int
	reconnect time.Duration
	backoff   time.Duration
	weight    float64
	meta      map[string]string
	plainOnly bool    // the session protocol is not asked for
	secrets   secrets // nil: none
	bad       error   // an option's bad value

	negotiates bool // links agree upon the protocol while they connect; static after start

	gw      atomic.Pointer[Gateway] // that adopted it
	health  health
	live    atomic.Int32 // links that are up
	bound   atomic.Int64 // sessions bound to it
	backend atomic.Int32 // the backendState it told last
	retired atomic.Bool  // the scanner doesn't list it any more

	mu       sync.Mutex    // guards the rest; taken after session.mu
	links    []*link       // that are up
	openings []*opening    // each knows its place
	wake     chan struct{} // closed, and replaced, when a link comes up
	dialect  dialect
	probing  bool          // a slot finds out about dialect
	probed   chan struct{} // closed, and replaced, when it has
	debts    []debt
	resumer  *time.Timer // of sessions without a lane
	peer     instanceID  // the backend's, where there is one
	cancel   context.CancelFunc
	slots    sync.WaitGroup
}

// NewEndpoint returns an endpoint that a gateway can reach the way cli connects. It starts nothing: a scanner may make
// the same endpoints on every scan. The links are clones of cli, with its address and options and without its handlers;
// cli itself is never run. Its largest packet bounds what is forwarded; what comes from the endpoint may have 64 KiB in any case,
// for the protocol's sake.
func NewEndpoint(name string, cli *client.Client, options ...EndpointOption) *Endpoint {
	e := &Endpoint{
		name: name, template: cli, evaluator: defaultEvaluator, poolSize: DefaultEndpointConnectionPoolSize,
		reconnect: DefaultEndpointReconnectInterval, weight: 1,
		wake: make(chan struct{}), probed: make(chan struct{}),
	}
	if cli != nil {
		e.address = cli.GetServerAddr()
	}
	for _, option := range options {
		if option != nil {
			option(e)
		}
	}
	return e
}

// GetName returns the endpoint's name.
func (e *Endpoint) GetName() string { return e.name }

// GetAddress returns the address that its links connect to.
func (e *Endpoint) GetAddress() string { return e.address }

// GetState returns how well the endpoint answers: greater is better, 0 while none of its links is up. It follows the
// measured delay.
func (e *Endpoint) GetState() float64 {
	g := e.gw.Load()
	if g == nil || !e.usable() {
		return 0
	}
	state := 0.0
	g.guard("state evaluator", func() { state = e.evaluator(e.health.delay()) })
	if !(state > 0) { // negative or no number
		return 0
	}
	return min(state, math.MaxFloat64)
}

// Sessions returns how many connections are bound to the endpoint.
func (e *Endpoint) Sessions() int { return int(e.bound.Load()) }

// Links returns how many of the endpoint's links are up.
func (e *Endpoint) Links() int { return int(e.live.Load()) }

// Delay returns the measured delay that the state is made of.
func (e *Endpoint) Delay() time.Duration { return time.Duration(e.health.delay()) }

// Weight returns what WithEndpointWeight set, 1 by default.
func (e *Endpoint) Weight() float64 { return e.weight }

// Meta returns what WithEndpointMeta set, in a map of the caller's own.
func (e *Endpoint) Meta() map[string]string { return maps.Clone(e.meta) }

// Retired reports whether the scanner has stopped listing the endpoint: it keeps the connections it has and gets no new ones.
func (e *Endpoint) Retired() bool { return e.retired.Load() }

// usable reports whether packets can be forwarded.
func (e *Endpoint) usable() bool { return e.live.Load() > 0 && e.gw.Load() != nil }

// start connects the endpoint's links.
func (e *Endpoint) start() {
	ctx, cancel := context.WithCancel(context.Background())
	e.negotiates = !e.plainOnly && client.CloneClient(e.template).Offer(protocolSubprotocol)
	e.mu.Lock()
	e.cancel = cancel
	e.mu.Unlock()
	for slot := range e.poolSize {
		e.slots.Go(func() { e.runSlot(ctx, slot) })
	}
}

// stop flushes and closes the links, joins their goroutines, and takes every session off the endpoint.
func (e *Endpoint) stop() {
	for _, s := range e.sessions() {
		s.part(e)
	}
	e.mu.Lock()
	e.cancel()
	e.mu.Unlock()
	e.slots.Wait()
	e.mu.Lock()
	if e.resumer != nil {
		e.resumer.Stop()
	}
	e.mu.Unlock()
	for _, s := range e.sessions() {
		s.leave(e)
	}
	e.retired.Store(false)
	e.gw.Store(nil)
}

// attach and detach note which sessions are open on the endpoint.
func (e *Endpoint) attach(o *opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o.place = int32(len(e.openings))
	e.openings = append(e.openings, o)
}

func (e *Endpoint) detach(o *opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.place < 0 {
		return
	}
	end := len(e.openings) - 1
	last := e.openings[end]
	e.openings[o.place], last.place = last, o.place
	e.openings[end] = nil
	e.openings, o.place = e.openings[:end], -1
	if l := o.lane.Load(); l != nil {
		l.sessions--
		l.groups.forget(o)
	}
}

// sessions returns the sessions that are open on the endpoint.
func (e *Endpoint) sessions() []*session {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*session, 0, len(e.openings))
	for _, o := range e.openings {
		all = append(all, o.session)
	}
	return all
}
