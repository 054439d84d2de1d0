package gatewaytest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// reconnectInterval is after how long a link to a fake endpoint is tried again: tests have no time.
const reconnectInterval = 50 * time.Millisecond

// Answer makes what an endpoint sends back for a packet of a player, in order; nil: nothing. The packet belongs to it. It runs on the
// goroutine that reads the gateway's link, packet after packet.
type Answer func(player string, packet []byte) [][]byte

// Echo is the Answer that sends the packet back.
func Echo(_ string, packet []byte) [][]byte { return [][]byte{packet} }

// Endpoint is a game server as a test wants it. It records what it gets: Opened, Received and Closed, each with the address that the
// player has at its gateway. Its methods may be called from any goroutine but for those that can fail the test.
type Endpoint struct {
	*Recorder
	network *Network // static, as are the next ones up to log
	name    string
	addr    string
	plain   bool
	options []gateway.BackendOption
	log     *slog.Logger

	life sync.Mutex // of Up and Down, which take turns; taken before mu

	mu     sync.Mutex // guards the rest
	answer Answer
	delay  time.Duration
	up     process // nil: down
}

// process is an endpoint from Up to Down, in one of the two dialects.
type process interface {
	write(player string, packet []byte) bool // false: no such player
	stop()                                   // joins it. It records nothing from then on
}

// NewEndpoint runs an endpoint that speaks the session protocol, a gateway.Backend with options, at addr until the test's end. It answers
// nothing until Answer tells it to.
func NewEndpoint(t testing.TB, network *Network, name, addr string, options ...gateway.BackendOption) *Endpoint {
	t.Helper()
	e := newEndpoint(t, network, name, addr)
	e.options = append(slices.Clone(options), gateway.WithBackendLogger(e.log))
	e.Up()
	return e
}

// NewPlainEndpoint runs an endpoint that is written by hand with the two codecs, at addr until the test's end. It hears of no player
// before its first packet, and not of its end: it records Received only. A player goes by its name on the wire, which is its address if
// that is an IPv4 address.
func NewPlainEndpoint(t testing.TB, network *Network, name, addr string) *Endpoint {
	t.Helper()
	e := newEndpoint(t, network, name, addr)
	e.plain = true
	e.Up()
	return e
}

func newEndpoint(t testing.TB, network *Network, name, addr string) *Endpoint {
	return &Endpoint{
		Recorder: newRecorder(t, "endpoint "+name+" at "+addr), network: network, name: name, addr: addr,
		log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// Endpoint returns the endpoint for a scanner, another one on each call: it belongs to one gateway. A link that is lost is tried again
// every 50 ms, give or take a fifth, unless options say otherwise.
func (e *Endpoint) Endpoint(options ...gateway.EndpointOption) *gateway.Endpoint {
	all := []gateway.EndpointOption{gateway.WithEndpointReconnectInterval(reconnectInterval)}
	if e.plain {
		all = append(all, gateway.WithPlainLinks())
	}
	return gateway.NewEndpoint(e.name, e.network.Client(e.addr), append(all, options...)...)
}

// Answer has answer called for each packet from now on, after it was recorded. nil: nothing is answered, as in the beginning.
func (e *Endpoint) Answer(answer Answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// Delay makes the endpoint slow: it takes d over each packet from now on, and does nothing else for anybody on that link meanwhile, the
// gateway's pings included. A gateway that shuts down meanwhile gives it the 5 s that it gives to any endpoint that doesn't read. 0 or less:
// no longer slow.
func (e *Endpoint) Delay(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delay = d
}

// Expect blocks until a packet of player has come that nobody has waited for, and fails the test if it is another one than packet.
func (e *Endpoint) Expect(player string, packet []byte) {
	e.t.Helper()
	e.expect(player, packet)
}

// Push sends packet to player, and fails the test if the player isn't there. It doesn't block.
func (e *Endpoint) Push(player string, packet []byte) {
	e.t.Helper()
	if up := e.running(); up == nil || !up.write(player, packet) {
		e.missing(player)
	}
}

// Kick closes player, at its gateway, behind what was pushed before. The gateway passes on codes from 4000 to 4999. It fails the test if
// the player isn't there, or the endpoint is plain, and doesn't block.
func (e *Endpoint) Kick(player string, code int, reason string) {
	e.t.Helper()
	e.Conn(player).CloseWith(code, reason)
}

// Conn returns player's connection here, for whatever else a backend may do: hand it over, join it to a group. It fails the test if the
// player isn't there, or the endpoint is plain.
func (e *Endpoint) Conn(player string) *server.Conn {
	e.t.Helper()
	var conn *server.Conn
	if p, ok := e.running().(*backendProcess); ok {
		conn = p.find(player)
	}
	if conn == nil {
		e.missing(player)
	}
	return conn
}

func (e *Endpoint) missing(player string) {
	e.t.Helper()
	e.t.Fatalf("gatewaytest: %s has no player %s\n%s", e.who, player, e.describe())
}

// Backend returns what the endpoint is made of, for casts, groups, Hold and Undrain; another one after each Up. nil: it is down, or
// plain.
func (e *Endpoint) Backend() *gateway.Backend {
	if p, ok := e.running().(*backendProcess); ok {
		return p.backend
	}
	return nil
}

// Drain has the gateways move all players to other endpoints of the same name, and blocks until they have. It fails the test if they
// have not after Patience, or the endpoint is down or plain.
func (e *Endpoint) Drain() {
	e.t.Helper()
	backend := e.Backend()
	if backend == nil {
		e.t.Fatalf("gatewaytest: %s can't drain: it is down, or plain", e.who)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := backend.Drain(ctx); err != nil {
		e.t.Fatalf("gatewaytest: %s: %v\n%s", e.who, err, e.describe())
	}
}

// Down makes the endpoint vanish, as if its process were killed: links break, whatever they are in the middle of, dials are refused, and
// nothing is recorded. It blocks until nothing of it runs. Gateways notice soon after: a Recorder of theirs tells (LinkDown).
func (e *Endpoint) Down() {
	e.life.Lock()
	defer e.life.Unlock()
	e.mu.Lock()
	up := e.up
	e.up = nil
	e.mu.Unlock()
	if up == nil {
		return
	}
	e.network.Refuse(e.addr, true)
	e.network.Cut(e.addr)
	up.stop()
}

// Up brings the endpoint back, as a new process that knows nobody; Answer and Delay are as they were. It returns when the endpoint
// listens.
func (e *Endpoint) Up() {
	e.t.Helper()
	e.life.Lock()
	defer e.life.Unlock()
	if e.running() != nil {
		return
	}
	e.network.Refuse(e.addr, false)
	var up process
	if e.plain {
		up = newPlainProcess(e)
	} else {
		up = newBackendProcess(e)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.up = up
}

func (e *Endpoint) running() process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.up
}

// answers returns what is to be sent back for a packet, after the time that it takes. ended cuts that short.
func (e *Endpoint) answers(player string, packet []byte, ended <-chan struct{}) [][]byte {
	e.mu.Lock()
	answer, delay := e.answer, e.delay
	e.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ended:
			return nil
		}
	}
	if answer == nil {
		return nil
	}
	return answer(player, packet)
}

// host is the server of a process.
type host struct {
	endpoint *Endpoint // static, as are the rest
	srv      *server.Server
	ended    chan struct{} // closed when the endpoint has gone down
	end      func()
	shutdown func()
}

func newHost(e *Endpoint, options ...server.Option) *host {
	h := &host{endpoint: e, ended: make(chan struct{})}
	h.srv = e.network.Server(append(options, server.WithLogger(e.log))...)
	h.end = sync.OnceFunc(func() { close(h.ended) })
	return h
}

// start runs the server.
func (h *host) start() {
	h.endpoint.t.Helper()
	h.shutdown = run(h.endpoint.t, h.endpoint.who, h.srv, h.endpoint.addr)
	h.endpoint.t.Cleanup(h.end) // before that stops it: a slow endpoint shall not keep the test
}

func (h *host) stop() {
	h.end()
	h.shutdown()
}

// add records an event, unless the endpoint has gone down.
func (h *host) add(e Event) {
	select {
	case <-h.ended:
	default:
		h.endpoint.add(e)
	}
}
