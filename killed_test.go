package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	// gatewayProcessFor makes the test binary a gateway in front of the backend at that address, and nothing else.
	gatewayProcessFor = "GATEWAY_TEST_PROCESS_FOR"
	// These are the process's network and engine, and how many more descriptors it may have once its links are up.
	gatewayProcessNetwork = "GATEWAY_TEST_PROCESS_NETWORK"
	gatewayProcessEngine  = "GATEWAY_TEST_PROCESS_ENGINE"
	gatewayProcessSpare   = "GATEWAY_TEST_PROCESS_SPARE"
)

// runGatewayProcess runs a gateway until it is killed, or until its standard input ends because who has started it has.
func runGatewayProcess(backend string) {
	e := gateway.NewEndpoint("game", client.NewTCP(backend), gateway.WithEndpointConnectionPoolSize(2))
	srv := server.New("tcp")
	if network := os.Getenv(gatewayProcessNetwork); network != "" {
		srv = server.New(server.Network(network), engines()[os.Getenv(gatewayProcessEngine)])
	}
	g := gateway.NewGateway(srv, gateway.NewStaticScanner(e), gateway.WithLogger(quiet))
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) { e.Forward(conn, packet) })
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	var links atomic.Int32
	g.RegEndpointConnectOpenedEventHandle(func(g *gateway.Gateway, _ *gateway.Endpoint) {
		if links.Add(1) == 2 {
			leaveDescriptors(os.Getenv(gatewayProcessSpare))
			fmt.Println(g.Server().Addr())
		}
	})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	fmt.Fprintln(os.Stderr, g.Run("127.0.0.1:0"))
	os.Exit(1)
}

// startGatewayProcess returns a gateway of another process, with its links up, and where it listens.
func startGatewayProcess(t *testing.T, backend string) (process *exec.Cmd, address string) {
	return startGatewayProcessWith(t, backend, os.Stderr)
}

// startGatewayProcessWith has the process complain to stderr, and gives it more of its environment.
func startGatewayProcessWith(t *testing.T, backend string, stderr io.Writer, env ...string) (process *exec.Cmd, address string) {
	binary, err := os.Executable()
	require.NoError(t, err)
	process = exec.Command(binary)
	process.Env = append(append(os.Environ(), env...), gatewayProcessFor+"="+backend)
	process.Stderr = stderr
	_, err = process.StdinPipe() // it ends with this process, at the latest
	require.NoError(t, err)
	stdout, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		process.Process.Kill() // if the test has not
		process.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return process, strings.TrimSpace(line)
}

// A gateway that is killed outright says nothing: its sessions are closed at the backend after the grace time, each once, and
// those of another gateway don't notice.
func TestGatewayKilled(t *testing.T) {
	const bots, grace = 8, 200 * time.Millisecond
	var mu sync.Mutex
	closed := map[string][]time.Time{} // by a player's word
	h := newHost(t, "tcp", func(conn *server.Conn, packet []byte) []byte {
		conn.SetData("player", string(packet))
		return packet
	}, gateway.WithGrace(grace), gateway.WithBackendLogger(quiet))
	h.srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) {
		mu.Lock()
		defer mu.Unlock()
		player, _ := conn.GetData("player").(string)
		closed[player] = append(closed[player], time.Now())
	})
	e := h.endpoint(gateway.WithEndpointConnectionPoolSize(2))
	spared := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 2, e)
	process, address := startGatewayProcess(t, h.address)
	var theirs, others []*bot
	for i := range bots {
		theirs, others = append(theirs, newBot(t, "tcp", address)), append(others, newBot(t, "tcp", spared.address))
		theirs[i].ask(t, fmt.Append(nil, "killed ", i))
		others[i].ask(t, fmt.Append(nil, "spared ", i))
	}
	require.Equal(t, 4, h.Links())
	require.Equal(t, 2*bots, h.srv.GetOnlineCount())

	killed := time.Now()
	require.NoError(t, process.Process.Kill())
	require.Eventually(t, func() bool { return h.srv.GetOnlineCount() == bots && h.Stats().Sessions == bots }, patience, time.Millisecond)
	for i := range bots {
		assert.Equal(t, "on", string(others[i].ask(t, []byte("on"))))
		require.Eventually(t, func() bool { return theirs[i].closed.Load() == 1 }, patience, time.Millisecond)
	}
	require.Eventually(t, func() bool { return gateway.Peers(h.Backend) == 1 }, patience, time.Millisecond, "the killed one is forgotten")
	mu.Lock()
	defer mu.Unlock()
	assert.Len(t, closed, bots)
	for i := range bots {
		times := closed[fmt.Sprint("killed ", i)]
		if assert.Len(t, times, 1) {
			assert.GreaterOrEqual(t, times[0].Sub(killed), grace, "and not before")
		}
	}
	checkEvents(t, h)
}
