// Package gatewaytest tests gateways, their handlers and their backends without sockets: on a network in memory, with endpoints that do
// as they are told, players that say what they expect, and a record of what has happened. All of it works in a testing/synctest bubble
// too, if it is made there; time is the bubble's then.
//
// What waits, waits for Patience at the most, and then fails the test, saying who waited for what, and what has come instead. Functions
// that can fail the test belong on the test's own goroutine. Everything that is started here has ended when the test has: what was
// started last ends first.
//
// A gateway is tested as it is, by what reaches it and what it does:
//
//	network := gatewaytest.NewNetwork()
//	game := gatewaytest.NewEndpoint(t, network, "game", "game-1")
//	gw := newGateway(network.Server(), gateway.NewStaticScanner(game.Endpoint())) // the code under test registers its handlers
//	gatewaytest.Start(t, gw, "gate")
//	ann := gatewaytest.NewPlayer(t, network, "gate")
//	ann.Send([]byte("hello"))
//	game.Expect(ann.Addr(), []byte("hello"))
//	game.Push(ann.Addr(), []byte("welcome"))
//	ann.Expect([]byte("welcome"))
//
// A server that plays with its players itself, a backend for one, runs on the network by Serve, with a gateway before it or without. A
// function that only needs a *server.Conn gets one from NewConn. The package's tests show all of that: routing by what packets say, a
// room and its players, failover, handlers that depend on time.
package gatewaytest

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// Patience is how long what has to happen is waited for.
const Patience = 30 * time.Second

const checkInterval = time.Millisecond // of what nobody tells of

// Serve runs srv on addr until the test's end, and returns when it listens. Failing to, or what Wait returns in the end, fails the test.
func Serve(t testing.TB, srv *server.Server, addr string) {
	t.Helper()
	_ = run(t, "server at "+addr, srv, addr)
}

// Start runs gw on addr until the test's end. It returns when gw listens, the scanner was asked for the first time, and each endpoint
// that it listed has a link: players can be forwarded to it. A gateway that shall not wait for its endpoints is run by its own methods.
func Start(t testing.TB, gw *gateway.Gateway, addr string) {
	t.Helper()
	links := &linked{seen: map[*gateway.Endpoint]bool{}, changed: make(chan struct{}, 1)}
	gw.RegEndpointConnectOpenedEventHandle(links.note, math.MaxInt)
	_ = run(t, "gateway at "+addr, gw, addr)
	links.await(t, gw, addr)
}

// runner is a server, or a gateway.
type runner interface {
	Start(ctx context.Context, addr ...string) error
	Shutdown()
	Wait() error
}

// run runs r until the returned function is called, or the test's end.
func run(t testing.TB, who string, r runner, addr string) (stop func()) {
	t.Helper()
	if err := r.Start(context.Background(), addr); err != nil {
		t.Fatalf("gatewaytest: %s: %v", who, err)
	}
	stop = sync.OnceFunc(func() {
		r.Shutdown()
		if err := r.Wait(); err != nil {
			t.Errorf("gatewaytest: %s: %v", who, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// linked notes which endpoints have had a link.
type linked struct {
	changed chan struct{} // has one when somebody should look again

	mu   sync.Mutex // guards the next
	seen map[*gateway.Endpoint]bool
}

func (l *linked) note(_ *gateway.Gateway, e *gateway.Endpoint) {
	l.mu.Lock()
	l.seen[e] = true
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// await blocks until the gateway has scanned, and has had a link to each endpoint it knows.
func (l *linked) await(t testing.TB, gw *gateway.Gateway, addr string) {
	t.Helper()
	limit, check := time.NewTimer(Patience), time.NewTicker(checkInterval)
	defer limit.Stop()
	defer check.Stop()
	for !l.all(gw) {
		select {
		case <-l.changed:
		case <-check.C:
		case <-limit.C:
			t.Fatalf("gatewaytest: gateway at %s has waited %v for a link to each endpoint: %s", addr, Patience, l.describe(gw))
		}
	}
}

func (l *linked) all(gw *gateway.Gateway) bool {
	if gw.Stats().Scans == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range gw.Endpoints() {
		if !l.seen[e] {
			return false
		}
	}
	return true
}

func (l *linked) describe(gw *gateway.Gateway) string {
	if gw.Stats().Scans == 0 {
		return "no scan has succeeded"
	}
	var all []string
	for e := range gw.Endpoints() {
		all = append(all, fmt.Sprintf("%s at %s has %d", e.GetName(), e.GetAddress(), e.Links()))
	}
	return strings.Join(all, ", ")
}
