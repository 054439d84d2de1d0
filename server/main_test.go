package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

func TestMain(m *testing.M) { gwtest.Main(m) }

const (
	ws, tcp, unix = conformance.WebSocket, conformance.TCP, conformance.Unix

	none, text, binary = conformance.None, conformance.Text, conformance.Binary

	patience = 20 * time.Second // before a test gives up on something that has to happen
)

var networks = []string{ws, tcp, unix}

// engines are those that this system has.
func engines() map[string]server.Option {
	all := map[string]server.Option{"goroutines": server.WithEngine(server.EngineGoroutines)}
	if loop.Supported {
		all["loops"] = server.WithEngine(server.EngineLoops)
	}
	return all
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var errEnough = errors.New("enough")

// await receives from ch, and fails the test if nothing comes.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		require.FailNow(t, "no "+what)
		panic("not reached")
	}
}

// host is a running server and what its handlers saw.
type host struct {
	*server.Server
	network string
	addr    string
	opened  chan *server.Conn
	packets chan message
	closed  chan ending
	ended   chan error    // outcome of Run, of one that start0 started
	pipes   *pipeListener // of an in-memory one
}

type message struct {
	conn *server.Conn
	data string
}

type ending struct {
	id  string
	err any
}

func newHost(network string, opts ...server.Option) *host {
	opts = append([]server.Option{server.WithLogger(quiet)}, opts...)
	h := &host{
		Server: server.New(server.Network(network), opts...), network: network,
		opened: make(chan *server.Conn, 4096), packets: make(chan message, 1<<15), closed: make(chan ending, 4096),
	}
	h.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { h.opened <- conn })
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		h.packets <- message{conn, string(packet)}
	})
	h.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) { h.closed <- ending{conn.GetID(), err} })
	return h
}

// serve runs a server on a real socket until the test's end.
func serve(t testing.TB, network string, opts ...server.Option) *host {
	t.Helper()
	return newHost(network, opts...).start(t)
}

func (h *host) start(t testing.TB) *host {
	t.Helper()
	h.addr = gwtest.Serve(t, h.Server, address(t, h.network))
	return h
}

// start0 runs the server. Its end is the test's business.
func (h *host) start0(t testing.TB) {
	t.Helper()
	h.ended = make(chan error, 1)
	ready := make(chan struct{})
	h.RegMessageReadyEvent(func(*server.Server) { close(ready) })
	addr := address(t, h.network)
	go func() { h.ended <- h.Run(addr) }()
	t.Cleanup(h.Shutdown)
	select {
	case <-ready:
	case err := <-h.ended:
		require.NoError(t, err, "it ended before it listened")
	}
	if a := h.Addr(); a != nil {
		h.addr = a.String()
	}
}

// serveMemory runs a server on connections in memory until the test's end; it may do so in a synctest bubble.
func serveMemory(t testing.TB, network string, opts ...server.Option) *host {
	t.Helper()
	return newHost(network, opts...).startMemory(t)
}

func (h *host) startMemory(t testing.TB) *host {
	t.Helper()
	h.pipes = newPipeListener()
	server.Over(h.Server, h.pipes)
	gwtest.Serve(t, h.Server, "")
	return h
}

func gwtestServe(t testing.TB, h *host, addr string) string {
	t.Helper()
	return gwtest.Serve(t, h.Server, addr)
}

func address(t testing.TB, network string) string {
	if network == unix {
		return filepath.Join(t.TempDir(), "s")
	}
	return "127.0.0.1:0"
}

// echo makes the server send back what it gets.
func (h *host) echo() *host {
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) }, 1)
	return h
}

// dial connects a peer, and returns it with the server's own end of the connection.
func (h *host) dial(t testing.TB) (*conformance.Peer, *server.Conn) {
	t.Helper()
	var p *conformance.Peer
	if h.pipes != nil {
		p = conformance.NewPeer(t, h.pipes.dial(), h.network)
		t.Cleanup(p.Cut)
		if h.network == ws {
			require.Equal(t, 101, p.Upgrade("/").StatusCode)
		}
	} else {
		p = conformance.Dial(t, h.network, h.addr, "/")
	}
	return p, await(t, h.opened, "opened event")
}

func (h *host) next(t testing.TB) message { t.Helper(); return await(t, h.packets, "packet") }
func (h *host) end(t testing.TB) any      { t.Helper(); return await(t, h.closed, "closed event").err }

// endError is end for a connection that has to end with an error.
func (h *host) endError(t testing.TB) error {
	t.Helper()
	err, ok := h.end(t).(error)
	require.True(t, ok, "the closed event gets an error")
	return err
}

// write writes data, and returns what its callback will get.
func write(conn *server.Conn, data []byte) <-chan error {
	result := make(chan error, 2)
	conn.Write(data, func(err error) { result <- err })
	return result
}

// pipeListener accepts net.Pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn, 64), closed: make(chan struct{})}
}

func (l *pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l.conns <- far
	return near
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Net: "pipe", Name: "memory"} }

// logs hands on what is logged.
type logs struct{ lines chan string }

func newLogs() (*logs, server.Option) {
	l := &logs{lines: make(chan string, 1024)}
	return l, server.WithLogger(slog.New(l))
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	l.lines <- line
	return nil
}

// expect returns the next line that begins so, after its level.
func (l *logs) expect(t testing.TB, level slog.Level, message string) string {
	t.Helper()
	for {
		if line := await(t, l.lines, "log line: "+message); strings.HasPrefix(line, level.String()+" "+message) {
			return line
		}
	}
}

// tick is how often require.Eventually looks where there is no event to wait for.
const tick = time.Millisecond

// dialNamed connects a WebSocket peer under a name that handlers find in the connection's data.
func dialNamed(t testing.TB, h *host, name string) *conformance.Peer {
	t.Helper()
	p := conformance.Dial(t, ws, h.addr, "/?name="+name)
	await(t, h.opened, "opened event")
	return p
}
