package kcp_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// rig is a server that answers each packet with the same, and what it heard.
type rig struct {
	*server.Server
	transport server.Transport
	address   string
	packets   chan string
	opened    chan *server.Conn
	closed    chan any // what closed events got
}

// newRig runs a server over transport.
func newRig(t testing.TB, transport server.Transport, opts ...server.Option) *rig {
	r := &rig{
		Server:    server.New(server.NetworkKcp, append(opts, server.WithTransport(transport), server.WithLogger(quiet))...),
		transport: transport, packets: make(chan string, 1<<14), opened: make(chan *server.Conn, 64), closed: make(chan any, 64),
	}
	r.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { r.opened <- conn })
	r.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { r.closed <- err })
	r.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		r.packets <- string(packet)
		conn.Write(packet)
	})
	r.address = gwtest.Serve(t, r.Server, "127.0.0.1:0")
	return r
}

// bot is a client, and what it heard.
type bot struct {
	*client.Client
	packets chan string
	closed  chan any
}

func newBot(t testing.TB, address string, opts ...kcp.Option) *bot {
	b := &bot{
		Client:  kcp.NewClient(address, append(opts, kcp.WithLogger(quiet))...),
		packets: make(chan string, 1<<14), closed: make(chan any, 4),
	}
	b.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { b.packets <- string(packet) })
	b.RegConnectionClosedEvent(func(_ *client.Client, err any) { b.closed <- err })
	t.Cleanup(func() { b.Close() })
	return b
}

// await receives from ch, and fails the test if nothing comes.
func await[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-ch:
	case <-timer.C:
		require.FailNow(t, "no "+what)
	}
	return v
}

// badSocket loses, doubles and delays every tenth datagram that is written to it, each. Cut, it loses all of them, and receives none.
type badSocket struct {
	net.PacketConn
	cut atomic.Bool

	mu    sync.Mutex // guards the rest
	dice  *rand.Rand // nil: only cut counts
	held  []byte
	to    net.Addr
	spoil int // datagrams that were lost, doubled or delayed
}

// newBadSocket returns one on a port of its own. seed 0: it does nothing to datagrams until it is cut.
func newBadSocket(t testing.TB, seed uint64) *badSocket {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &badSocket{PacketConn: socket}
	if seed != 0 {
		s.dice = rand.New(rand.NewPCG(seed, seed))
	}
	return s
}

func (s *badSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := s.PacketConn.ReadFrom(p)
		if err != nil || !s.cut.Load() {
			return n, addr, err
		}
	}
}

func (s *badSocket) WriteTo(p []byte, addr net.Addr) (int, error) {
	if s.cut.Load() {
		return len(p), nil
	}
	if s.dice == nil {
		return s.PacketConn.WriteTo(p, addr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	late, to := s.held, s.to
	s.held = nil
	var err error
	switch roll := s.dice.IntN(10); {
	case roll == 0:
		s.spoil++
	case roll == 1:
		s.spoil++
		_, _ = s.PacketConn.WriteTo(p, addr)
		_, err = s.PacketConn.WriteTo(p, addr)
	case roll == 2 && late == nil:
		s.spoil++
		s.held, s.to = bytes.Clone(p), addr
	default:
		_, err = s.PacketConn.WriteTo(p, addr)
	}
	if late != nil {
		_, _ = s.PacketConn.WriteTo(late, to)
	}
	return len(p), err
}

func (s *badSocket) spoiled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoil
}

// over has a client use socket.
func over(socket net.PacketConn) kcp.Option {
	return kcp.WithDial(func(_ context.Context, addr string) (net.PacketConn, net.Addr, error) {
		remote, err := net.ResolveUDPAddr("udp", addr)
		return socket, remote, err
	})
}
