package client_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(runner{m}) }

// runner runs the tests, and then ends the event loop that they may have used.
type runner struct{ *testing.M }

func (r runner) Run() int {
	defer func() { endLoop() }()
	return r.M.Run()
}

// endLoop ends the event loop of the tests, where there are loops.
var endLoop = func() {}

const patience = 20 * time.Second // before a test gives up on something that must happen

// await receives from ch, and fails the test if nothing comes.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		buf := make([]byte, 1<<16)
		require.FailNow(t, "no "+what, string(buf[:runtime.Stack(buf, true)]))
		panic("unreachable")
	}
}

// within runs f, and fails the test if it hangs.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	await(t, done, "return of "+what)
}

// backend is a running server and what it saw.
type backend struct {
	*server.Server
	addr    string
	conns   chan *server.Conn
	packets chan received
	closed  chan any
}

type received struct {
	wst  int
	data string
}

// serve runs a server that echoes nothing, until the test ends.
func serve(t testing.TB, network server.Network, opts ...server.Option) *backend {
	t.Helper()
	b := &backend{
		Server: server.New(network, opts...),
		conns:  make(chan *server.Conn, 1<<12), packets: make(chan received, 1<<16), closed: make(chan any, 1<<12),
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	b.RegStartFinishEvent(func(*server.Server) { close(started) })
	b.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { b.conns <- conn })
	b.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		b.packets <- received{conn.GetWST(), string(packet)}
	})
	b.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { b.closed <- err })
	listen := "127.0.0.1:0"
	switch network {
	case server.NetworkUnix:
		listen = filepath.Join(t.TempDir(), "s")
	case server.NetworkWebsocket:
		listen += "/ws"
	}
	go func() { ended <- b.Run(listen) }()
	select {
	case <-started:
	case err := <-ended:
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		b.Shutdown()
		assert.NoError(t, await(t, ended, "end of the server"))
	})
	b.addr = b.Addr().String()
	return b
}

// echo makes the server send back what it gets.
func (b *backend) echo() *backend {
	b.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) }, 1)
	return b
}

// transports are the client's own ones, plain; loop_test.go adds those on an event loop.
var transports = []struct {
	name    string
	network server.Network
	client  func(addr string, opts ...client.Option) *client.Client
}{
	{"tcp", server.NetworkTcp, client.NewTCP},
	{"unix", server.NetworkUnix, client.NewUnixDomainSocket},
	{"ws", server.NetworkWebsocket, func(addr string, opts ...client.Option) *client.Client {
		return client.NewWebsocket("ws://"+addr+"/ws", opts...)
	}},
}

// log collects a client's events.
type log struct {
	opened  chan struct{}
	closed  chan any
	packets chan received

	mu     sync.Mutex // guards events
	events []string
}

func observe(c *client.Client) *log {
	l := &log{opened: make(chan struct{}, 1<<12), closed: make(chan any, 1<<12), packets: make(chan received, 1<<16)}
	c.RegConnectionOpenedEvent(func(*client.Client) { l.add("opened"); l.opened <- struct{}{} })
	c.RegConnectionClosedEvent(func(_ *client.Client, err any) { l.add("closed"); l.closed <- err })
	c.RegConnectionReceivePacketEvent(func(_ *client.Client, wst int, packet []byte) {
		l.add("packet")
		l.packets <- received{wst, string(packet)}
	})
	return l
}

func (l *log) add(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event)
}

func (l *log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.events...)
}

// running counts the goroutines that have function on their stack.
func running(function string) int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "gateway/client."+function+"(")
}

// assertJoined fails the test if a goroutine of any client still reads or writes.
func assertJoined(t testing.TB) {
	t.Helper()
	for _, function := range []string{"(*connection).write", "(*streamCore).Run", "(*wsCore).Run", "(*fakeCore).Run"} {
		assert.Zero(t, running(function), function)
	}
}

// listen accepts TCP connections and hands them to handle, one goroutine each, joined at the end of the test.
func listen(t testing.TB, handle func(conn *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// framed is packet as the default framer marks it.
func framed(packet string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...)
}

// pipes returns an option that connects in memory, and the servers' ends of those connections.
func pipes() (client.Option, <-chan net.Conn) {
	peers := make(chan net.Conn, 16)
	return client.WithDialFunc(func(client.DialFunc) client.DialFunc {
		return func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			peers <- far
			return near, nil
		}
	}), peers
}

// dialed returns an option that shows the sockets that a client opens.
func dialed() (client.Option, <-chan net.Conn) {
	conns := make(chan net.Conn, 16)
	return client.WithDialFunc(func(dial client.DialFunc) client.DialFunc {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err == nil {
				conns <- conn
			}
			return conn, err
		}
	}), conns
}

// numbered is the packet number i.
func numbered(i int) []byte { return fmt.Appendf(nil, "packet %d", i) }
