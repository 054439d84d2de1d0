package gateway_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// Either side may know the other's secret as its previous one: secrets rotate without downtime.
func TestSecretsRotate(t *testing.T) {
	for name, test := range map[string]struct {
		gateway gateway.EndpointOption
		backend gateway.BackendOption
		works   bool
	}{
		"the same":                 {gateway.WithLinkSecret(secretA), gateway.WithSecret(secretA), true},
		"the gateway's is new":     {gateway.WithLinkSecret(secretB, secretA), gateway.WithSecret(secretA), true},
		"the backend's is new":     {gateway.WithLinkSecret(secretA), gateway.WithSecret(secretB, secretA), true},
		"nothing in common":        {gateway.WithLinkSecret(secretA), gateway.WithSecret(secretB), false},
		"none at the gateway":      {nil, gateway.WithSecret(secretA), false},
		"none at the backend":      {gateway.WithLinkSecret(secretA), nil, false},
		"too short at the gateway": {gateway.WithLinkSecret(secretA[:15]), gateway.WithSecret(secretA), false},
		"secret and plain links":   {func(e *gateway.Endpoint) { gateway.WithLinkSecret(secretA)(e); gateway.WithPlainLinks()(e) }, gateway.WithSecret(secretA), false},
		"trusted, and proven":      {gateway.WithLinkSecret(secretA), func(b *gateway.Backend) { gateway.WithSecret(secretA)(b) }, true},
		"proven, but from elsewhere": {gateway.WithLinkSecret(secretA), func(b *gateway.Backend) {
			gateway.WithSecret(secretA)(b)
			gateway.TrustedGateways(netip.MustParsePrefix("192.0.2.0/24"))(b)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, time.Hour, func(w *world) found {
				return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), test.gateway)}}
			}, func(w *world) {
				h, stop := runMemHost(t, w.net, "a", test.backend)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				cli, got := w.join()
				cli.Write([]byte("x"))
				synctest.Wait()
				if test.works {
					assert.Equal(t, "x", string(<-got))
				} else {
					assert.Empty(t, got)
					assert.Zero(t, h.got.Load())
				}
				cli.Close()
				stop()
			})
		})
	}
}

// Secrets rotate under traffic: gateway first, then the backends, one at a time, each drained before. Not a packet is lost.
func TestSecretsRotateUnderTraffic(t *testing.T) {
	const bots, packets, window = 30, 400, 8
	heard := &ledger{next: map[int]int{}}
	old, young := newCounter(t, "tcp", heard, gateway.WithSecret(secretA)), newCounter(t, "tcp", heard, gateway.WithSecret(secretB))
	both := gateway.WithLinkSecret(secretB, secretA)
	eOld, eYoung := old.endpoint(both), young.endpoint(both)
	endpoints := []*gateway.Endpoint{eOld}
	var mu sync.Mutex
	g := newGateway(t, "tcp", "game", gateway.NewFuncScanner(10*time.Millisecond, func() ([]*gateway.Endpoint, error) {
		mu.Lock()
		defer mu.Unlock()
		return endpoints, nil
	}))
	ready(t, 1, eOld)
	var playing sync.WaitGroup
	var got atomic.Int64
	for who := range bots {
		bot := newBot(t, "tcp", g.address)
		bot.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { got.Add(1) })
		playing.Go(func() { converse(t, bot, who, packets, window) })
	}
	require.Eventually(t, func() bool { return got.Load() > bots*packets/4 }, patience, time.Millisecond)
	mu.Lock()
	endpoints = []*gateway.Endpoint{eOld, eYoung}
	mu.Unlock()
	ready(t, 1, eYoung)
	require.NoError(t, old.Drain(t.Context()))
	playing.Wait()
	heard.check(t, bots, packets)
	assert.Zero(t, g.Stats().ForwardsFailed)
	assert.Equal(t, bots, eYoung.Sessions())
}

// A secret allows no WebSocket endpoint that doesn't speak the protocol either.
func TestSecretForbidsPlainWebsocket(t *testing.T) {
	p := newPlainEndpoint(t, "websocket", false)
	e := gateway.NewEndpoint("game", dial("websocket", p.address), gateway.WithLinkSecret(secretA), gateway.WithEndpointReconnectInterval(time.Millisecond))
	log := &lines{}
	newGateway(t, "tcp", "game", gateway.NewStaticScanner(e), gateway.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	require.Eventually(t, func() bool { return log.contains("link not connected") && log.contains("not trusted") }, patience, time.Millisecond)
	assert.Zero(t, e.Links())
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Zero(t, p.control+p.data)
}

// A gateway's log says why a backend doesn't take its links, as far as that can be known: over a stream nobody tells it.
func TestRefusedLinkIsExplained(t *testing.T) {
	for network, why := range map[server.Network]string{
		"tcp": "secret missing or wrong, or gateway not trusted", "websocket": "no proof of a secret that both sides have",
	} {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, nil, gateway.WithSecret(secretA), gateway.WithBackendLogger(quiet))
			log := &lines{}
			newGateway(t, "tcp", "game", gateway.NewStaticScanner(h.endpoint()), gateway.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
			require.Eventually(t, func() bool { return log.contains("link not connected") && log.contains(why) }, patience, time.Millisecond)
		})
	}
}

// A backend's bad option is an error of its server's Run.
func TestBadBackendOption(t *testing.T) {
	for name, option := range map[string]gateway.BackendOption{
		"secret too short": gateway.WithSecret(secretA[:15]),
		"name too long":    gateway.WithBackendName(strings.Repeat("x", 256)),
	} {
		t.Run(name, func(t *testing.T) {
			srv := server.New("tcp")
			b := gateway.NewBackend(srv, option)
			err := srv.Run("127.0.0.1:0")
			assert.ErrorIs(t, err, gateway.ErrBadOption)
			assert.ErrorIs(t, err, server.ErrBadOption)
			assert.ErrorIs(t, err, b.Err())
		})
	}
}

// lines collects a log.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *lines) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text, []byte(s))
}
