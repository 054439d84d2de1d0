package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

func TestMain(m *testing.M) { gwtest.Main(m) }

// loadtest runs the program with -json and returns its exit code and result.
func loadtest(t *testing.T, ctx context.Context, args ...string) (code int, res result) {
	var stdout, stderr bytes.Buffer
	code = command(ctx, append(args, "-json"), &stdout, &stderr)
	t.Logf("exit code %d\n%s%s", code, stderr.String(), stdout.String())
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &res), "stdout is one JSON object")
	return code, res
}

// serveGateway serves a gateway with an echo behind it, and returns where it listens.
func serveGateway(t *testing.T, network server.Network, listen string) string {
	echo := gwtest.Serve(t, newEcho(server.NetworkTcp), "127.0.0.1:0")
	endpoint := gateway.NewEndpoint("game", client.NewTCP(echo))
	srv := server.New(network)
	listening, linked, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	srv.RegMessageReadyEvent(func(*server.Server) { close(listening) })
	gw := gateway.NewGateway(srv, gateway.NewStaticScanner(endpoint))
	gw.RegEndpointConnectOpenedEventHandle(func(*gateway.Gateway, *gateway.Endpoint) { close(linked) })
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		endpoint, err := gw.GetConnEndpoint("game", conn)
		if err != nil {
			conn.Close(err)
			return
		}
		endpoint.Forward(conn, packet)
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	go func() { ended <- gw.Run(listen) }()
	t.Cleanup(func() {
		gw.Shutdown()
		assert.NoError(t, <-ended)
	})
	for _, ready := range []chan struct{}{listening, linked} {
		select {
		case <-ready:
		case err := <-ended:
			require.NoError(t, err, "gateway ended before it was ready")
		case <-time.After(20 * time.Second):
			require.Fail(t, "gateway is not ready")
		}
	}
	return srv.Addr().String()
}

// flags are those of a short load.
func flags(more ...string) []string {
	return append([]string{"-clients", "20", "-duration", "300ms", "-warmup", "100ms", "-pids", fmt.Sprint(os.Getpid())}, more...)
}

// assertFine checks a result that has nothing to complain about.
func assertFine(t *testing.T, code int, r result) {
	assert.Equal(t, exitFine, code)
	assert.Positive(t, r.Sent)
	assert.Equal(t, counts{Sent: r.Sent, Answered: r.Sent}, r.counts, "all are answered, nothing else is counted")
	assert.Empty(t, r.FirstError)
	assert.Positive(t, r.MessagesPerSecond)
	l := r.Latency
	assert.Positive(t, l.P50)
	assert.True(t, l.P50 <= l.P90 && l.P90 <= l.P99 && l.P99 <= l.P999 && l.P999 <= l.Max, "%+v", l)
	assert.GreaterOrEqual(t, r.Window, 0.3)
	assert.False(t, r.Interrupted)
}

func TestGateway(t *testing.T) {
	for _, test := range []struct {
		name, url string
		network   server.Network
		listen    string
		rate      float64
		more      []string
	}{
		{"ws", "ws://%s/", server.NetworkWebsocket, "127.0.0.1:0", 500, nil},
		{"ws, large packets", "ws://%s/", server.NetworkWebsocket, "127.0.0.1:0", 50, []string{"-size", "65536", "-clients", "2"}},
		{"ws, medium packets", "ws://%s/", server.NetworkWebsocket, "127.0.0.1:0", 500, []string{"-size", "300"}},
		{"tcp", "tcp://%s", server.NetworkTcp, "127.0.0.1:0", 500, nil},
		{"tcp, smallest packets", "tcp://%s", server.NetworkTcp, "127.0.0.1:0", 500, []string{"-size", "16"}},
		{"unix", "unix://%s", server.NetworkUnix, filepath.Join(t.TempDir(), "socket"), 500, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := fmt.Sprintf(test.url, serveGateway(t, test.network, test.listen))
			t.Run("closed loop", func(t *testing.T) {
				code, r := loadtest(t, t.Context(), flags(append([]string{"-addr", address}, test.more...)...)...)
				assertFine(t, code, r)
				assert.Equal(t, "closed", r.Mode)
				assert.Nil(t, r.Lag)
			})
			t.Run("rate", func(t *testing.T) {
				code, r := loadtest(t, t.Context(), flags(append([]string{"-addr", address, "-rate", fmt.Sprint(test.rate)}, test.more...)...)...)
				assertFine(t, code, r)
				assert.Equal(t, "rate", r.Mode)
				assert.InDelta(t, test.rate*r.Window, r.Sent, 0.2*test.rate*r.Window+2, "as many as were due in the window")
				assert.Positive(t, r.Lag.Max)
			})
		})
	}
}

func TestDatagrams(t *testing.T) {
	address := serveDatagrams(t)
	for _, rate := range []string{"closed", "500"} {
		code, r := loadtest(t, t.Context(), flags("-addr", address, "-network", "udp", "-rate", rate)...)
		assertFine(t, code, r)
	}
}

// serveDatagrams sends each datagram back to where it came from.
func serveDatagrams(t *testing.T) (address string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, conn.Close())
		serving.Wait()
	})
	return conn.LocalAddr().String()
}

func TestNobodyListensToDatagrams(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	code, r := loadtest(t, t.Context(), flags("-addr", "udp://"+conn.LocalAddr().String(), "-timeout", "50ms")...)
	assert.Equal(t, exitWrong, code)
	assert.Positive(t, r.Lost)
	assert.Equal(t, r.Sent, r.Lost)
}

func TestInterrupted(t *testing.T) {
	for _, test := range []struct {
		name string
		more []string
		sent bool
	}{
		{"in the window", []string{"-warmup", "0s", "-duration", "1h"}, true},
		{"in the window, with a rate", []string{"-warmup", "0s", "-duration", "1h", "-rate", "500"}, true},
		{"in the warm-up", []string{"-warmup", "1h"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			srv := newEcho(server.NetworkTcp)
			srv.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) { cancel() })
			address := "tcp://" + gwtest.Serve(t, srv, "127.0.0.1:0")
			code, r := loadtest(t, ctx, flags(append(test.more, "-addr", address)...)...)
			assert.Equal(t, exitFine, code)
			assert.True(t, r.Interrupted)
			assert.Less(t, r.Window, 60.0)
			assert.Equal(t, test.sent, r.Sent > 0, "sent %d", r.Sent)
			assert.Equal(t, r.Sent, r.Answered)
		})
	}
}

func TestProcesses(t *testing.T) {
	if _, err := readUsage(os.Getpid()); err != nil {
		t.Skip(err)
	}
	_, r := loadtest(t, t.Context(), flags("-addr", "udp://"+serveDatagrams(t))...)
	require.Len(t, r.Processes, 1)
	p := r.Processes[0]
	assert.Equal(t, os.Getpid(), p.PID)
	assert.Positive(t, p.CPU)
	assert.Positive(t, p.Percent)
	assert.Greater(t, p.Resident, int64(1<<20))
	assert.Equal(t, os.Getpid(), r.Self.PID)
}

func TestText(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), flags("-addr", "udp://"+serveDatagrams(t), "-rate", "500", "-duration", "1100ms"), &stdout, &stderr)
	assert.Equal(t, exitFine, code)
	for _, word := range []string{"messages/s", "p50", "p90", "p99 ", "p99.9", "misrouted", "errors", "CPU", "MiB", "sent late by"} {
		assert.Contains(t, stdout.String(), word)
	}
	assert.Contains(t, stderr.String(), "messages/s", "progress")
}

func TestSourceAddresses(t *testing.T) {
	if defaultSources() == 1 {
		t.Skip("this system answers on 127.0.0.1 only")
	}
	var mu sync.Mutex
	seen := map[string]int{}
	srv := newEcho(server.NetworkWebsocket)
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
		mu.Lock()
		defer mu.Unlock()
		seen[conn.GetIP()]++
	})
	code, r := loadtest(t, t.Context(), flags("-addr", gwtest.Serve(t, srv, "127.0.0.1:0"), "-sources", "4")...)
	assertFine(t, code, r)
	assert.Equal(t, map[string]int{"127.0.0.1": 5, "127.0.0.2": 5, "127.0.0.3": 5, "127.0.0.4": 5}, seen)
}

func TestBadFlags(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"-clients 0", "-clients 0"},
		{"-clients many", `"many"`},
		{"-size 15", "-size 15"},
		{"-size 2000000", "-size 2000000"},
		{"-network udp -addr 127.0.0.1:1 -size 65508", "-size 65508"},
		{"-rate 0", `-rate "0"`},
		{"-rate fast", `-rate "fast"`},
		{"-rate -5", `-rate "-5"`},
		{"-rate NaN", `-rate "NaN"`},
		{"-rate Inf", `-rate "Inf"`},
		{"-duration 0s", "-duration 0s"},
		{"-duration soon", `"soon"`},
		{"-warmup -1s", "-warmup -1s"},
		{"-timeout 2m", "-timeout 2m"},
		{"-sources 0", "-sources 0"},
		{"-sources 251", "-sources 251"},
		{"-network pigeon", `"pigeon"`},
		{"-addr pigeon://coop", `"pigeon"`},
		{"-addr ws://", `"ws://"`},
		{"-addr tcp://nowhere", `"tcp://nowhere"`},
		{"-addr unix://", `"unix://"`},
		{"-network tcp -addr ws://127.0.0.1:1/", `"ws://127.0.0.1:1/" is not of -network "tcp"`},
		{"-pids x", `"x"`},
		{"-pids -2", `"-2"`},
		{"-pids 1999999999", "1999999999"},
		{"-wings 2", "-wings"},
		{"go", `"go"`},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, exitFlags, command(t.Context(), strings.Fields(test.args), &stdout, &stderr))
			assert.Contains(t, stderr.String(), test.want)
			assert.Empty(t, stdout.String())
		})
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitFine, command(t.Context(), []string{"-h"}, &stdout, &stderr))
	assert.Contains(t, stdout.String(), "-clients")
}

func TestCannotConnect(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	page := gwtest.Serve(t, newEcho(server.NetworkTcp), "127.0.0.1:0") // which is no WebSocket server
	for _, test := range []struct{ name, address, want string }{
		{"ws, nobody there", "ws://" + closed.Addr().String() + "/", "refused"},
		{"tcp, nobody there", "tcp://" + closed.Addr().String(), "refused"},
		{"unix, nobody there", "unix://" + filepath.Join(t.TempDir(), "none"), "none"},
		{"ws, another protocol", "ws://" + page + "/", "connect client"},
		{"no such host", "tcp://host.invalid:1", "host.invalid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, exitWrong, command(t.Context(), flags("-addr", test.address), &stdout, &stderr))
			assert.Contains(t, stderr.String(), test.want)
			assert.Empty(t, stdout.String())
		})
	}
}

func TestServeEcho(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitFine, command(ctx, []string{"-echo", "127.0.0.1:0"}, &stdout, &stderr))
	assert.Equal(t, exitWrong, command(t.Context(), []string{"-echo", "nowhere"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "nowhere")
}
