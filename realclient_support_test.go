package gateway_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// Clients in programs of their own come from testdata/realclient. What they need is named when it is missing: then they are skipped,
// or fail where toolsVariable is "required".
const (
	toolsVariable    = "GATEWAY_TEST_TOOLS"
	toolsDirVariable = "GATEWAY_TEST_TOOLS_DIR" // where npm has put its packages; default: gateway-test-tools in the user's cache directory
	wsVersion        = "8.23.0"
	clientFiles      = "testdata/realclient"
)

// missing ends a test that can't be done here.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv(toolsVariable) == "required" {
		require.FailNow(t, "missing here, but required", what)
	}
	t.Skip("NOT TESTED, because this is missing: " + what)
}

// notShort skips a test that starts programs of others.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED in short mode: clients in programs of their own")
	}
}

// tool returns the path of the first of the programs that there is.
func tool(t *testing.T, install string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, names[0]+" on the PATH: "+install)
	return ""
}

// wsModule is where npm's ws is.
func wsModule(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(toolsDirVariable)
	if dir == "" {
		cache, err := os.UserCacheDir()
		require.NoError(t, err)
		dir = filepath.Join(cache, "gateway-test-tools")
	}
	module := filepath.Join(dir, "node_modules", "ws")
	if _, err := os.Stat(filepath.Join(module, "package.json")); err != nil {
		missing(t, "npm install --no-save --prefix "+dir+" ws@"+wsVersion)
	}
	return module
}

// arena is a gateway in front of two endpoints of the name "game": a plain one, where players begin, which answers in capitals, and a
// backend, which answers with what it gets. "move" and "switch" take the player to the other one, and "bye" ends it.
type arena struct {
	*fixture
	plainSide *backend
	hostSide  *host
	plain, v1 *gateway.Endpoint
	closed    chan any
	failed    chan error
}

func newArena(t *testing.T, front, back server.Network, options ...server.Option) *arena {
	a := &arena{
		plainSide: newBackend(t, back, bytes.ToUpper), hostSide: newHost(t, back, func(_ *server.Conn, p []byte) []byte { return p }),
		closed: make(chan any, 16), failed: make(chan error, 16),
	}
	a.plain, a.v1 = a.plainSide.endpoint("game"), a.hostSide.endpoint()
	srv := server.New(front, options...)
	srv.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { a.closed <- err })
	g := gateway.NewGateway(srv, gateway.NewStaticScanner(a.plain, a.v1),
		gateway.WithEndpointSelector(func([]*gateway.Endpoint) *gateway.Endpoint { return a.plain }))
	a.fixture = &fixture{Gateway: g, network: front}
	g.RegConnectionReceivePacketEventHandle(a.received)
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.RegForwardFailedEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, _ *server.Conn, _ []byte, err error) { a.failed <- err })
	a.run(t, "")
	ready(t, 1, a.plain, a.v1)
	return a
}

func (a *arena) received(g *gateway.Gateway, conn *server.Conn, packet []byte) {
	var err error
	switch string(packet) {
	case "move":
		err = g.MoveConn(conn, a.v1)
	case "switch":
		g.SwitchEndpoint(a.v1, a.plain)
	case "bye":
		conn.CloseWith(4001, "game over")
	default:
		var e *gateway.Endpoint
		if e, err = g.GetConnEndpoint("game", conn); err == nil {
			e.Forward(conn, packet)
		}
	}
	if err != nil {
		a.failed <- err
	}
}

// ended returns what the closed event got.
func (a *arena) ended(t *testing.T) any {
	t.Helper()
	select {
	case err := <-a.closed:
		return err
	case <-time.After(patience):
		require.Fail(t, "the gateway hasn't seen the end")
		return nil
	}
}

// checkWhole checks that each endpoint has got its part of conversations, one after the other, and nothing was lost.
func (a *arena) checkWhole(t *testing.T, plainPackets, v1Packets int) {
	t.Helper()
	a.plainSide.mu.Lock()
	assert.Len(t, a.plainSide.all, plainPackets, "packets to the plain endpoint")
	a.plainSide.mu.Unlock()
	got := 0
	for _, events := range a.hostSide.heard() {
		for _, event := range events {
			if event != "opened" && event != "closed <nil>" {
				got++
			}
		}
	}
	assert.Equal(t, v1Packets, got, "packets to the backend")
	assert.Empty(t, a.failed)
}

// runClient runs a client's program, and returns what it has printed.
func runClient(t *testing.T, path string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, complaints.String())
	return out
}
