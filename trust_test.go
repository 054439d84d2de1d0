package gateway_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// TestForgedGateways tries everything but the right proof on a backend with a secret: nobody gets in, the connection is
// closed within 2 s whatever traffic follows, and nothing is delivered.
func TestForgedGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
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

func playForgedBackend(t *testing.T, answer func(hello []byte) [][]byte, right bool) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithLinkSecret(secretA))}}
	}, func(w *world) {
		srv := w.net.Server(server.WithLinks())
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
		{"192.0.2.1:9", []string{"::ffff:192.0.2.0/120"}, true},
		{"[::ffff:192.0.2.1]:9", []string{"::ffff:192.0.2.0/120"}, true},
		{"192.0.3.1:9", []string{"::ffff:192.0.2.0/120"}, false},
		{"[fe80::1%eth0]:9", []string{"fe80::/10"}, true},
		{"192.0.2.1:9", []string{"::/0"}, false},
	} {
		t.Run(fmt.Sprint(test.from, test.trusted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := gatewaytest.NewNetwork()
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

func TestTrustedGatewaysThatAreNone(t *testing.T) {
	assert.ErrorIs(t, gateway.NewBackend(server.New("tcp"), gateway.TrustedGateways(netip.Prefix{})).Err(), gateway.ErrBadOption)
}
