package gateway_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

var quiet = slog.New(slog.DiscardHandler)

// memHost is a backend on a network in memory.
type memHost struct {
	*gateway.Backend
	srv    *server.Server
	opened atomic.Int32
	got    atomic.Int32
}

func runMemHost(t *testing.T, net *gwtest.Network, addr string, options ...gateway.BackendOption) (h *memHost, stop func()) {
	h = &memHost{srv: server.New("tcp", server.WithTransport(net.Transport()), server.WithLogger(quiet))}
	h.Backend = gateway.NewBackend(h.srv, append(options, gateway.WithBackendLogger(quiet))...)
	h.srv.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { h.opened.Add(1) })
	h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { h.got.Add(1); conn.Write(packet) })
	ended := make(chan error, 1)
	go func() { ended <- h.srv.Run(addr) }()
	synctest.Wait()
	return h, func() { h.srv.Shutdown(); assert.NoError(t, <-ended) }
}

// rawLink is a gateway's link, made by hand.
type rawLink struct {
	*client.Client
	got    chan []byte
	closed time.Time
}

func newRawLink(t *testing.T, net *gwtest.Network, addr string) *rawLink {
	l := &rawLink{Client: net.Client(addr), got: make(chan []byte, 1000)}
	l.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) { l.got <- data })
	l.RegConnectionClosedEvent(func(*client.Client, any) { l.closed = time.Now() })
	require.NoError(t, l.Run())
	return l
}

// control sends a control packet.
func (l *rawLink) control(kind byte, body []byte) {
	l.Write(append([]byte{0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, kind}, body...))
}

// The numbers of the control packets, as PROTOCOL.md has them.
const (
	hello, welcome, auth, readyState, open = 1, 2, 3, 4, 5
)

func helloBody(lowest, highest byte, nonce byte, secret []byte) []byte {
	b := append([]byte{lowest, highest}, bytes.Repeat([]byte{7}, 16)...)
	b = append(b, bytes.Repeat([]byte{nonce}, 32)...)
	b = append(b, 3, 'r', 'a', 'w')
	if secret == nil {
		return append(b, 0)
	}
	return append(append(b, 1), keyIDOf(secret)...)
}

func keyIDOf(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("gateway.v1 key id"), secret...))
	return sum[:8]
}

// proofOf is written from PROTOCOL.md, apart from the library's own. helloBody and welcome are as they were sent.
func proofOf(secret []byte, role string, hello, welcome []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	field := func(b []byte) {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		mac.Write(b)
	}
	field([]byte(role))
	field(hello[:2])
	field(hello[2:18])
	field(hello[18:50])
	name := int(hello[50])
	field(hello[51 : 51+name])
	for ids := hello[52+name:]; len(ids) >= 8; ids = ids[8:] {
		field(ids[:8])
	}
	field(welcome[:1])
	field(welcome[1:17])
	field(welcome[17:49])
	name = int(welcome[49])
	field(welcome[50 : 50+name])
	field(welcome[51+name : 59+name])
	field(nil) // no TLS
	return mac.Sum(nil)
}

func openBodyFor(key []byte) []byte {
	b := append(bytes.Clone(key), 0, 0, 0, 1, 0)
	b = append(b, make([]byte, 16)...)
	return append(b, 0, 3, 't', 'c', 'p', 0, 0, 0, 0, 0, 0, 0)
}

var (
	secretA = []byte("a secret of more than 16 bytes")
	secretB = []byte("another one, just as long as it")
	keyA    = []byte{203, 0, 113, 7, 0x12, 0x67}
)

// TestForgedGateways tries everything but the right proof on a backend with a secret: nobody gets in, the connection is
// closed within 2 s whatever traffic follows, and nothing is delivered.
func TestForgedGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gwtest.NewNetwork()
		h, stop := runMemHost(t, net, "backend", gateway.WithSecret(secretA))
		var replay []byte // a proof that was right once
		attempt := func(name string, body []byte, makeProof func(welcome []byte) []byte, right bool) {
			l := newRawLink(t, net, "backend")
			begun := time.Now()
			l.control(hello, body)
			synctest.Wait()
			var w []byte
			if len(l.got) > 0 {
				w = (<-l.got)[11:]
			}
			if proof := makeProof(w); proof != nil {
				l.control(auth, proof)
			}
			for i := range 30 { // traffic extends nothing
				l.control(open, openBodyFor(keyA))
				data, _ := gateway.MarshalGatewayOutPacket("203.0.113.7:4711", []byte("let me in"))
				l.Write(data)
				time.Sleep(time.Duration(50+i) * time.Millisecond)
			}
			synctest.Wait()
			if right {
				assert.True(t, l.IsConnected(), name)
				l.Close()
				synctest.Wait()
				return
			}
			if assert.False(t, l.IsConnected(), name) {
				assert.LessOrEqual(t, l.closed.Sub(begun), 2*time.Second, name)
			}
			for len(l.got) > 0 {
				assert.NotEqual(t, byte(readyState), (<-l.got)[10], name)
			}
		}
		blob := func(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }
		nothing := func([]byte) []byte { return nil }
		goodHello := helloBody(1, 1, 9, secretA)
		rightProof := func(w []byte) []byte { return proofOf(secretA, "gateway", goodHello, w) }

		attempt("silence after HELLO", goodHello, nothing, false)
		attempt("no secret", helloBody(1, 1, 9, nil), nothing, false)
		attempt("another secret", helloBody(1, 1, 9, secretB), nothing, false)
		attempt("names the secret, knows another", goodHello, func(w []byte) []byte { return blob(proofOf(secretB, "gateway", goodHello, w)) }, false)
		attempt("no common version", helloBody(2, 9, 9, secretA), nothing, false)
		attempt("malformed HELLO", goodHello[:20], nothing, false)
		attempt("reflected", goodHello, func(w []byte) []byte { return blob(w[len(w)-32:]) }, false)
		attempt("the backend's role", goodHello, func(w []byte) []byte { return blob(proofOf(secretA, "backend", goodHello, w)) }, false)
		attempt("no proof in it", goodHello, func([]byte) []byte { return blob(nil) }, false)
		attempt("of another HELLO", goodHello, func(w []byte) []byte { return blob(proofOf(secretA, "gateway", helloBody(1, 1, 8, secretA), w)) }, false)
		assert.Zero(t, h.opened.Load())
		attempt("the right one", goodHello, func(w []byte) []byte { replay = rightProof(w); return blob(replay) }, true)
		before := h.opened.Load()
		attempt("replayed, relayed to another link", goodHello, func([]byte) []byte { return blob(replay) }, false)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 1000 {
			attempt(fmt.Sprint("generated ", i), goodHello, func(w []byte) []byte {
				proof := rightProof(w)
				switch i % 3 {
				case 0: // one bit
					proof[random.IntN(32)] ^= 1 << random.IntN(8)
				case 1: // truncated, or longer
					proof = append(proof, 0)[:random.IntN(32)]
				case 2:
					w = bytes.Clone(w)
					w[random.IntN(49)] ^= 1 << random.IntN(8) // a WELCOME that was changed on the way
					proof = rightProof(w)
				}
				return blob(proof)
			}, false)
		}
		assert.Equal(t, before, h.opened.Load(), "nobody got in")
		assert.EqualValues(t, 1011, h.Stats().LinksRefused)
		stop()
	})
}

// TestForgedBackends is the other side: a gateway with a secret links to nobody that doesn't prove it, and never falls back.
func TestForgedBackends(t *testing.T) {
	for name, answer := range map[string]func(hello []byte) [][]byte{
		"says nothing": func([]byte) [][]byte { return nil },
		"sends HELLO back": func(hello []byte) [][]byte {
			return [][]byte{append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, hello...)}
		},
		"plain packets":      func([]byte) [][]byte { return [][]byte{append(append(bytes.Clone(keyA), 0, 0, 0, 0), "hi"...)} },
		"no proof":           func(hello []byte) [][]byte { return [][]byte{forgedWelcome(1, nil, nil, hello), forgedReady()} },
		"the wrong secret":   func(hello []byte) [][]byte { return [][]byte{forgedWelcome(1, secretB, secretB, hello), forgedReady()} },
		"names it, and lies": func(hello []byte) [][]byte { return [][]byte{forgedWelcome(1, secretA, secretB, hello), forgedReady()} },
		"older version":      func(hello []byte) [][]byte { return [][]byte{forgedWelcome(0, secretA, secretA, hello), forgedReady()} },
		"READY first":        func([]byte) [][]byte { return [][]byte{forgedReady()} },
		"malformed":          func(hello []byte) [][]byte { return [][]byte{forgedWelcome(1, secretA, secretA, hello)[:40]} },
	} {
		t.Run(name, func(t *testing.T) { playForgedBackend(t, answer, false) })
	}
	t.Run("the right one", func(t *testing.T) {
		playForgedBackend(t, func(hello []byte) [][]byte {
			return [][]byte{forgedWelcome(1, secretA, secretA, hello), forgedReady()}
		}, true)
	})
}

func forgedReady() []byte { return []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, readyState, 0} }

func forgedWelcome(version byte, named, known, hello []byte) []byte {
	w := append([]byte{version}, bytes.Repeat([]byte{3}, 48)...)
	w = append(w, 0)
	if named == nil {
		w = append(w, 0, 0)
	} else {
		w = append(append(w, 1), keyIDOf(named)...)
		w = append(append(w, 32), proofOf(known, "backend", hello, w)...)
	}
	return append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, welcome}, w...)
}

func playForgedBackend(t *testing.T, answer func(hello []byte) [][]byte, right bool) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithLinkSecret(secretA))}}
	}, func(w *world) {
		srv := server.New("tcp", server.WithTransport(w.net.Transport()), server.WithLinks())
		var data atomic.Int32
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			if !isControl(packet, true) {
				data.Add(1)
			} else if packet[10] == hello {
				for _, p := range answer(packet[11:]) {
					conn.Write(p)
				}
			}
		})
		lived, closed := time.Duration(0), 0
		srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) {
			lived, closed = max(lived, conn.GetOnlineTime()), closed+1
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		cli, _ := w.join()
		cli.Write([]byte("x"))
		synctest.Wait()
		_, err := w.GetEndpoint("game")
		if right {
			assert.NoError(t, err)
			assert.EqualValues(t, 1, data.Load())
		} else {
			assert.Equal(t, gateway.ErrEndpointNotExists, err)
			assert.Zero(t, data.Load())
			assert.LessOrEqual(t, lived, 2100*time.Millisecond)
			assert.Positive(t, closed)
		}
		cli.Close()
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

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
		"too short at the backend": {gateway.WithLinkSecret(secretA), gateway.WithSecret(secretA[:15]), false},
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

// Without a secret, gateways of this machine are trusted, and with TrustedGateways those that are listed.
func TestTrustedGateways(t *testing.T) {
	for _, test := range []struct {
		from    string
		trusted []string
		in      bool
	}{
		{"127.0.0.1:9", nil, true},
		{"[::1]:9", nil, true},
		{"[::ffff:127.0.0.1]:9", nil, true},
		{"192.0.2.1:9", nil, false},
		{"[2001:db8::1]:9", nil, false},
		{"192.0.2.1:9", []string{"192.0.2.0/24"}, true},
		{"[::ffff:192.0.2.1]:9", []string{"192.0.2.0/24"}, true},
		{"192.0.3.1:9", []string{"192.0.2.0/24"}, false},
		{"127.0.0.1:9", []string{"192.0.2.0/24"}, false},
		{"[2001:db8::1]:9", []string{"192.0.2.0/24", "2001:db8::/32"}, true},
	} {
		t.Run(fmt.Sprint(test.from, test.trusted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := gwtest.NewNetwork()
				var prefixes []netip.Prefix
				for _, p := range test.trusted {
					prefixes = append(prefixes, netip.MustParsePrefix(p))
				}
				h, stop := runMemHost(t, net, "a", gateway.TrustedGateways(prefixes...))
				l := net.ClientFrom("a", test.from)
				require.NoError(t, l.Run())
				l.Write(append([]byte{0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, hello}, helloBody(1, 1, 9, nil)...))
				time.Sleep(3 * time.Second)
				synctest.Wait()
				assert.Equal(t, test.in, l.IsConnected())
				assert.Equal(t, test.in, h.Links() == 1)
				l.Close()
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
	assert.Empty(t, heard.bad)
	assert.Zero(t, g.Stats().ForwardsFailed)
	assert.Equal(t, bots, eYoung.Sessions())
	for who := range bots {
		assert.Equal(t, packets, heard.next[who])
	}
}

// A backend that says WELCOME after it was taken for a plain endpoint gets another chance: its links are closed, and it is asked
// anew.
func TestSlowWelcome(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		srv := server.New("tcp", server.WithTransport(w.net.Transport()), server.WithLinks())
		var hellos, plain atomic.Int32
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			switch {
			case !isControl(packet, true):
				plain.Add(1)
			case packet[10] == hello:
				if hellos.Add(1) == 1 {
					time.Sleep(1500 * time.Millisecond)
				}
				conn.Write(forgedWelcome(1, nil, nil, packet[11:]))
				conn.Write(forgedReady())
			case packet[10] == 16:
				conn.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17}, packet[11:]...))
			}
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for e := range w.Endpoints() {
			assert.Equal(t, 2, e.Links())
			assert.True(t, gateway.SpeaksSession(e))
		}
		assert.EqualValues(t, 3, hellos.Load(), "the slow one, then one for each link")
		assert.Zero(t, plain.Load())
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// A malformed control packet costs the link it came over, at either end, and its sessions go on over another.
func TestMalformedControlCostsTheLink(t *testing.T) {
	h := newHost(t, "tcp", nil)
	p := newProxy(t, h.address)
	e := gateway.NewEndpoint("game", client.NewTCP(p.address), gateway.WithEndpointConnectionPoolSize(2))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 2, e)
	var bots []*bot
	for range 4 {
		b := newBot(t, "tcp", g.address)
		b.ask(t, []byte("hello"))
		bots = append(bots, b)
	}
	for i, inject := range []func(p *pipe){
		func(p *pipe) { p.near.Write([]byte{0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 1}) },           // KICK, to the gateway
		func(p *pipe) { p.far.Write([]byte{0, 0, 0, 12, 0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, 5, 1}) }, // OPEN, to the backend
	} {
		ready(t, 2, e)
		require.Eventually(t, func() bool { return p.connections() == 2+i }, patience, time.Millisecond)
		p.mu.Lock()
		inject(p.pipes[1+i])
		p.mu.Unlock()
		require.Eventually(t, func() bool { return g.Stats().LinksClosed == uint64(i+1) }, patience, time.Millisecond)
		for _, b := range bots {
			assert.Equal(t, "on", string(b.ask(t, []byte("on"))))
		}
	}
	assert.EqualValues(t, 1, h.Stats().LinksRefused)
	assert.EqualValues(t, 1, g.Stats().DroppedMalformed)
	for _, events := range h.heard() {
		assert.Equal(t, []string{"opened", "hello", "on", "on"}, events)
	}
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
