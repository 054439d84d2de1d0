// Package backendnode_test plays against a backend in another language, which knows the gateway from PROTOCOL.md only.
package backendnode_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

const patience = 20 * time.Second

// node is a process of server.mjs.
type node struct {
	cmd     *exec.Cmd
	address string
	log     log
	ended   chan error
}

// log is what a process writes to stderr.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startNode runs server.mjs until the test's end.
func startNode(t *testing.T, args ...string) *node {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT TESTED: the backend in Node.js needs node on the PATH")
	}
	if runtime.GOOS == "windows" {
		t.Skip("there is no way to send a process Ctrl-C")
	}
	n := &node{ended: make(chan error, 1)}
	n.cmd = exec.Command(path, append([]string{"server.mjs", "--listen", "127.0.0.1:0"}, args...)...)
	n.cmd.Stderr = &n.log
	stdout, err := n.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.cmd.Start())
	first := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		first <- strings.TrimSpace(line)
		n.ended <- n.cmd.Wait()
		close(n.ended)
	}()
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill() // it has ended already, if the test has ended it
		<-n.ended
		if t.Failed() {
			t.Logf("%s\n%s", n.cmd, n.log.String())
		}
	})
	select {
	case line := <-first:
		var found bool
		n.address, found = strings.CutPrefix(line, "listening on ")
		require.True(t, found, "%q", line)
	case <-time.After(patience):
		require.Fail(t, "node says nothing")
	}
	return n
}

// end sends the process a signal, and waits until it has ended.
func (n *node) end(t *testing.T, signal os.Signal) {
	require.NoError(t, n.cmd.Process.Signal(signal))
	select {
	case err := <-n.ended:
		assert.NoError(t, err)
	case <-time.After(patience):
		assert.Fail(t, "node doesn't end")
	}
}

// endpoint is a node with two links, which come up again soon after they were lost.
func endpoint(address string, options ...gateway.EndpointOption) *gateway.Endpoint {
	options = append([]gateway.EndpointOption{
		gateway.WithEndpointConnectionPoolSize(2), gateway.WithEndpointReconnectInterval(20 * time.Millisecond),
	}, options...)
	return gateway.NewEndpoint("game", client.NewTCP(address), options...)
}

// front is a gateway that is running.
type front struct {
	*gateway.Gateway
	network server.Network
	address string
	failed  atomic.Int32 // packets that were not forwarded
}

// newFront runs a gateway that carries players to the endpoints called game, or to match once they were handed over. Each of them
// has so many links.
func newFront(t *testing.T, network server.Network, links int, endpoints []*gateway.Endpoint, options ...gateway.Option) *front {
	f := &front{network: network}
	f.Gateway = gateway.NewGateway(server.New(network), gateway.NewStaticScanner(endpoints...), options...)
	f.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		e, err := g.EndpointOf("match", conn), error(nil)
		if e == nil {
			e, err = g.GetConnEndpoint("game", conn)
		}
		if assert.NoError(t, err) {
			e.Forward(conn, packet)
		}
	})
	f.RegForwardFailedEventHandle(func(*gateway.Gateway, *gateway.Endpoint, *server.Conn, []byte, error) { f.failed.Add(1) })
	f.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	listening, ended := make(chan struct{}), make(chan error, 1)
	f.Server().RegMessageReadyEvent(func(*server.Server) { close(listening) })
	go func() { ended <- f.Run("127.0.0.1:0") }()
	select {
	case <-listening:
	case err := <-ended:
		require.NoError(t, err)
	}
	f.address = f.Server().Addr().String()
	t.Cleanup(func() {
		f.Shutdown()
		assert.NoError(t, <-ended)
	})
	for _, e := range endpoints {
		up(t, e, links)
	}
	return f
}

func up(t *testing.T, e *gateway.Endpoint, links int) {
	require.Eventually(t, func() bool { return e.Links() == links && (e.GetState() > 0) == (links > 0) }, patience, time.Millisecond)
}

// player is a client of a gateway.
type player struct {
	*client.Client
	got chan []byte
}

func (f *front) join(t *testing.T) *player {
	p := &player{Client: client.NewTCP(f.address), got: make(chan []byte, 1<<16)}
	if f.network == server.NetworkWebsocket {
		p.Client = client.NewWebsocket("ws://" + f.address + "/")
	}
	p.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { p.got <- packet })
	require.NoError(t, p.Run())
	t.Cleanup(func() { p.Close() })
	return p
}

func (p *player) next(t *testing.T) string {
	select {
	case packet := <-p.got:
		return string(packet)
	case <-time.After(patience):
		require.Fail(t, "no packet came")
		return ""
	}
}

func (p *player) say(packet string) { p.Write([]byte(packet)) }

func (p *player) ask(t *testing.T, packet string) string {
	p.say(packet)
	return p.next(t)
}

// numbered returns a packet that says who sent it and which it is.
func numbered(who, n int) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(who)), uint64(n))
}

// window is how many of a player's packets may be without a reply.
const window = 8

// converse sends numbered packets, and checks each reply.
func (p *player) converse(t *testing.T, who, packets int, replies *atomic.Int64) {
	for sent, got := 0, 0; got < packets; got++ {
		for ; sent < packets && sent < got+window; sent++ {
			p.Write(numbered(who, sent))
		}
		select {
		case packet := <-p.got:
			if !bytes.Equal(numbered(who, got), packet) {
				t.Errorf("player %d: reply %x came, %d was next", who, packet, got)
				return
			}
			replies.Add(1)
		case <-time.After(patience):
			t.Errorf("player %d: no reply %d", who, got)
			return
		}
	}
}

// crowd are players who all play at once.
type crowd struct {
	players []*player
	playing sync.WaitGroup
	replies atomic.Int64
}

// play lets so many players join, and each of them converse.
func (f *front) play(t *testing.T, players, packets int) *crowd {
	all := &crowd{players: make([]*player, players)}
	for who := range all.players {
		all.players[who] = f.join(t)
		all.playing.Go(func() { all.players[who].converse(t, who, packets, &all.replies) })
	}
	return all
}

// until waits until so many replies have come.
func (c *crowd) until(t *testing.T, replies int) {
	require.Eventually(t, func() bool { return c.replies.Load() >= int64(replies) }, patience, time.Millisecond)
}

// wait waits until all are done, and asks how many packets of each one came: every one, and the question.
func (c *crowd) wait(t *testing.T, packets int) {
	c.playing.Wait()
	for _, p := range c.players {
		assert.Equal(t, strconv.Itoa(packets+1), p.ask(t, "count"))
	}
}
