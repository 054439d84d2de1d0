//go:build linux && !noloops

package server_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// Clients that end in odd ways, and stay there as far as it is up to them, are closed, once, cost no processor time while they are
// waited for, and leave nothing.
func TestEngineOddEnds(t *testing.T) {
	rubbish := func(p *conformance.Peer, n int) { _, _ = p.Conn.Write(bytes.Repeat([]byte{0xff}, n)) } // the server may have had enough
	half := func(p *conformance.Peer) { _ = p.Conn.(*net.TCPConn).CloseWrite() }
	ends := map[string]func(p *conformance.Peer){
		"half-closed, and reads nothing":    func(p *conformance.Peer) { p.Write(text, []byte("x")); half(p) },
		"reset, with an answer on its way":  func(p *conformance.Peer) { p.Write(text, []byte("x")); _ = p.Conn.(*net.TCPConn).SetLinger(0); p.Cut() },
		"closed, then half-closes":          func(p *conformance.Peer) { p.Write(text, []byte("close")); half(p) },
		"closed, then goes on":              func(p *conformance.Peer) { p.Write(text, []byte("close")); rubbish(p, 1<<10) },
		"breaks a rule, and goes on":        func(p *conformance.Peer) { rubbish(p, 1<<16) },
		"breaks a rule, and half-closes":    func(p *conformance.Peer) { rubbish(p, 1<<6); half(p) },
		"leaves in order, and goes on":      func(p *conformance.Peer) { p.Farewell(); rubbish(p, 1<<6); half(p) },
		"half of a packet, and half-closes": func(p *conformance.Peer) { rubbish(p, 1); half(p) },
	}
	for engine, on := range engines() {
		for _, network := range []string{ws, tcp} {
			t.Run(engine+" "+network, func(t *testing.T) { oddEnds(t, newHost(network, on), ends) })
		}
	}
}

func oddEnds(t *testing.T, h *host, ends map[string]func(p *conformance.Peer)) {
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		if string(packet) == "close" {
			conn.Close()
		}
		conn.Write(make([]byte, 100<<10))
	}, 1)
	h.start(t)
	before := openDescriptors(t)
	const each = 5
	var left []*conformance.Peer // that have not closed their sockets
	for range each {
		for _, end := range ends {
			p, _ := h.dial(t)
			end(p)
			if p.Conn.SetDeadline(time.Time{}) == nil {
				left = append(left, p)
			}
		}
	}
	begun, spent := time.Now(), gwtest.ProcessorTime(t)
	for range each * len(ends) {
		h.end(t)
	}
	require.Eventually(t, func() bool { return openDescriptors(t) <= before+len(left) }, patience, 20*time.Millisecond)
	waited := time.Since(begun)
	require.Greater(t, waited, server.LingerTimeout/2, "some of them stay")
	assert.Less(t, gwtest.ProcessorTime(t)-spent, waited/2, "somebody spins")
	for _, p := range left {
		p.Cut()
	}
	assert.Eventually(t, func() bool {
		stats := h.Stats()
		return h.GetOnlineCount() == 0 && stats.Opened == uint64(each*len(ends)) && stats.Closed == stats.Opened
	}, patience, tick)
	assert.Equal(t, before, openDescriptors(t))
	assert.Empty(t, h.closed, "closed twice")
}
