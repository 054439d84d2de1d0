// Package examples_test runs the examples as the processes that they are.
package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
)

// programs is where the examples are built, once for all tests.
var programs string

func TestMain(m *testing.M) { gwtest.Main(built{m}) }

type built struct{ tests *testing.M }

func (b built) Run() int {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir + string(filepath.Separator)
	if out, err := exec.Command("go", "build", "-o", programs, "./endpoint", "./gateway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return b.tests.Run()
}

const patience = 20 * time.Second

func TestGatewayFollowsItsFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no way to send a process Ctrl-C")
	}
	list := filepath.Join(t.TempDir(), "endpoints.json")
	a := start(t, filepath.Join(programs, "endpoint"), "-name", "A", "-listen", "127.0.0.1:0")
	writeList(t, list, a.address)
	gw := start(t, filepath.Join(programs, "gateway"), "-listen", "127.0.0.1:0/ws", "-endpoints", list)

	// Until the link is up, a player's packet costs the connection; a new one tries again.
	first := connectUntil(t, gw.address, "A: hello")
	for i := range 100 {
		packet := fmt.Sprint("packet ", i)
		require.Equal(t, "A: "+packet, first.ask(packet))
	}

	b := start(t, filepath.Join(programs, "endpoint"), "-name", "B", "-network", "tcp", "-listen", "127.0.0.1:0")
	writeList(t, list, a.address, b.address)
	connectUntil(t, gw.address, "B: hello")
	assert.Equal(t, "A: still here", first.ask("still here"))

	for _, p := range []*process{gw, a, b} {
		p.interrupt(t)
	}
	select {
	case <-first.closed:
	case <-time.After(patience):
		assert.Fail(t, "the gateway has ended and the player was not told")
	}
}

func TestEndpointOnUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no way to send a process Ctrl-C")
	}
	list := filepath.Join(t.TempDir(), "endpoints.json")
	e := start(t, filepath.Join(programs, "endpoint"), "-name", "U", "-network", "unix", "-listen", filepath.Join(t.TempDir(), "s"))
	writeList(t, list, e.address)
	gw := start(t, filepath.Join(programs, "gateway"), "-listen", "127.0.0.1:0", "-endpoints", list)
	connectUntil(t, gw.address, "U: hello")
	gw.interrupt(t)
	e.interrupt(t)
}

func TestMistakesEndWithCode1(t *testing.T) {
	for _, test := range []struct {
		name    string
		command []string
		want    string
	}{
		{"endpoint on an unknown network", []string{"endpoint", "-network", "carrier pigeon"}, "carrier pigeon"},
		{"endpoint on a bad address", []string{"endpoint", "-listen", "nowhere"}, "nowhere"},
		{"gateway without a file", []string{"gateway", "-endpoints", "missing.json", "-listen", "127.0.0.1:0"}, "missing.json"},
		{"gateway on a bad address", []string{"gateway", "-endpoints", "gateway/endpoints.json", "-listen", "nowhere"}, "nowhere"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), filepath.Join(programs, test.command[0]), test.command[1:]...).CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, 1, exit.ExitCode())
			assert.Contains(t, string(out), test.want)
		})
	}
}

// writeList replaces the file of endpoints at once, so that it is never seen half written.
func writeList(t *testing.T, path string, addresses ...string) {
	type endpoint struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	}
	list := struct {
		Endpoints []endpoint `json:"endpoints"`
	}{}
	for _, address := range addresses {
		list.Endpoints = append(list.Endpoints, endpoint{"game", address})
	}
	data, err := json.Marshal(list)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", data, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// process is a program that is running.
type process struct {
	cmd     *exec.Cmd
	address string // the last word of its first line
	log     bytes.Buffer
	ended   chan error
}

// start runs a program until it is interrupted, or killed at the test's end.
func start(t *testing.T, path string, args ...string) *process {
	p := &process{cmd: exec.Command(path, args...), ended: make(chan error, 1)}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	firstLine := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			select {
			case firstLine <- lines.Text():
			default:
			}
		}
		p.ended <- p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended already, unless the test has failed
		<-p.ended
		if t.Failed() {
			t.Logf("%s\n%s", p.cmd, p.log.String())
		}
	})
	select {
	case line := <-firstLine:
		p.address = line[strings.LastIndexByte(line, ' ')+1:]
	case err := <-p.ended:
		require.Fail(t, "program ended", "%s: %v", p.cmd, err)
	case <-time.After(patience):
		require.Fail(t, "program says nothing", p.cmd.String())
	}
	return p
}

// interrupt is Ctrl-C: the program has to end with exit code 0.
func (p *process) interrupt(t *testing.T) {
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-p.ended:
		assert.NoError(t, err, p.cmd)
	case <-time.After(patience):
		assert.Fail(t, "program doesn't end", p.cmd.String())
	}
}

// player is a client of the gateway.
type player struct {
	*client.Client
	replies chan string
	closed  chan struct{}
}

func connect(t *testing.T, address string) *player {
	p := &player{Client: client.NewWebsocket(address), replies: make(chan string, 16), closed: make(chan struct{})}
	p.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { p.replies <- string(packet) })
	p.RegConnectionClosedEvent(func(*client.Client, any) { close(p.closed) })
	require.NoError(t, p.Run())
	t.Cleanup(func() { p.Close() })
	return p
}

// connectUntil connects one player after another until one gets reply for its hello, and returns that one.
func connectUntil(t *testing.T, address, reply string) *player {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		p := connect(t, address)
		if p.ask("hello") == reply {
			return p
		}
		p.Close()
		select {
		case <-tick.C:
		case <-limit:
			require.Fail(t, "no player got the reply", reply)
		}
	}
}

// ask sends packet and returns what comes back, "" if nothing does.
func (p *player) ask(packet string) string {
	p.Write([]byte(packet))
	select {
	case reply := <-p.replies:
		return reply
	case <-p.closed:
	case <-time.After(patience):
	}
	return ""
}
