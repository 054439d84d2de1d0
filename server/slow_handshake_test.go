package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// A thousand clients that say a byte a second of what a connection begins with are cut at the handshake timeout, and whoever is
// connected hardly notices.
func TestSlowHandshakes(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for seconds")
	}
	certFile, keyFile, pool := certificate(t)
	secure := server.WithTLS(certFile, keyFile)
	const hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03" // the beginning of TLS
	for _, test := range []struct {
		name, network, say string
		options            []server.Option
	}{
		{"request", ws, "GET / HTTP/1.1\r\n", nil},
		{"TLS before a request", ws, hello, []server.Option{secure}},
		{"TLS", tcp, hello, []server.Option{secure}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := serve(t, test.network, test.options...).echo()
			var p *conformance.Peer
			if test.options == nil {
				p = conformance.Dial(t, test.network, h.addr, "/")
			} else {
				p = conformance.DialTLS(t, test.network, h.addr, "/", &tls.Config{RootCAs: pool, ServerName: "game.test"})
			}
			slowHandshakes(t, h, p, test.say)
		})
	}
}

func slowHandshakes(t *testing.T, h *host, p *conformance.Peer, say string) {
	const (
		clients = 1000
		late    = 2 * time.Second // of this machine, which has other things to do
		// Below it a difference is the machine's, not the server's: one time slice lost to another process.
		floor = 2 * time.Millisecond
	)
	quiet := []time.Duration{p99(p), p99(p), p99(p)}
	slow := dripping(t, h.addr, clients, say)
	var during []time.Duration
	for range server.HandshakeTimeout / time.Second {
		during = append(during, p99(p))
	}
	took := slow.ended()
	quiet = append(quiet, p99(p), p99(p))

	slices.Sort(took)
	assert.Len(t, took, clients)
	assert.GreaterOrEqual(t, took[0], server.HandshakeTimeout-50*time.Millisecond, "nobody is cut early")
	assert.Less(t, took[clients-1], server.HandshakeTimeout+late, "nor late")
	assert.EqualValues(t, 1, h.Stats().Opened)
	assert.Eventually(t, func() bool { return h.Stats().Refusals[server.RefusedHandshake] == clients }, patience, tick)
	before, beside := median(quiet), median(during)
	t.Logf("p99 of a round trip: %v, and %v beside %d slow handshakes", before, beside, clients)
	assert.LessOrEqual(t, beside, 2*before+floor, "by windows: quiet %v, beside slow handshakes %v", quiet, during)
}

// p99 measures round trips, one a millisecond, for a second.
func p99(p *conformance.Peer) time.Duration {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < time.Second; <-pace.C {
		sent := time.Now()
		p.Write(text, []byte("there and back"))
		p.Expect(text, []byte("there and back"))
		took = append(took, time.Since(sent))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// drips are clients that take their time.
type drips struct {
	conns []net.Conn
	took  []time.Duration // until each of them was cut
	cut   sync.WaitGroup
	said  sync.WaitGroup
	stop  context.CancelFunc // nobody says anything any more
}

// dripping has clients say one byte each second, evenly spread.
func dripping(t *testing.T, addr string, clients int, say string) *drips {
	ctx, stop := context.WithCancel(t.Context())
	d := &drips{took: make([]time.Duration, clients), stop: stop}
	t.Cleanup(d.close)
	for i := range clients {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		d.conns = append(d.conns, conn)
		begun := time.Now()
		d.cut.Go(func() {
			_, _ = io.Copy(io.Discard, conn) // however it ends
			d.took[i] = time.Since(begun)
		})
	}
	d.said.Go(func() { d.say(ctx, say) })
	return d
}

func (d *drips) say(ctx context.Context, words string) {
	next := time.NewTicker(time.Second / time.Duration(len(d.conns)))
	defer next.Stop()
	for i := range words {
		for _, conn := range d.conns {
			_, _ = conn.Write([]byte{words[i]}) // it may have been cut
			select {
			case <-next.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// ended waits for the end of all, and returns how long each was let be.
func (d *drips) ended() []time.Duration {
	d.cut.Wait()
	d.stop()
	d.said.Wait()
	return d.took
}

func (d *drips) close() {
	for _, conn := range d.conns {
		conn.Close()
	}
	d.stop()
	d.said.Wait()
	d.cut.Wait()
}
