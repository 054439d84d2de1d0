package gateway_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// leaveDescriptors lets this process open so many descriptors more, "" for no limit.
func leaveDescriptors(spare string) {
	n, err := strconv.Atoi(spare)
	if err != nil {
		return
	}
	most := 0 // below it there are so many numbers that are free
	for ; n > 0; most++ {
		if _, err := os.Stat("/proc/self/fd/" + strconv.Itoa(most)); err != nil {
			n--
		}
	}
	limit := syscall.Rlimit{Cur: uint64(most), Max: uint64(most)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
}

// complaints are what a process says on stderr.
type complaints struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.Write(p)
}

func (c *complaints) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Count(c.lines.String(), what)
}

// When the gateway's process has no descriptors left, players that are there go on and lose nothing, the process doesn't spin, and who
// waits is served within a second of descriptors being freed.
func TestOutOfDescriptors(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for seconds")
	}
	for engine := range engines() {
		for _, network := range []server.Network{server.NetworkWebsocket, server.NetworkTcp} {
			t.Run(engine+" "+string(network), func(t *testing.T) { outOfDescriptors(t, network, engine) })
		}
	}
}

func outOfDescriptors(t *testing.T, network server.Network, engine string) {
	const players, spare, crowd = 8, 12, 40
	h := newHost(t, "tcp", func(_ *server.Conn, p []byte) []byte { return p })
	said := &complaints{}
	process, address := startGatewayProcessWith(t, h.address, said, gatewayProcessNetwork+"="+string(network),
		gatewayProcessEngine+"="+engine, gatewayProcessSpare+"="+strconv.Itoa(players+spare))
	pid := process.Process.Pid

	play := startPlayers(t, network, address, players)
	play.further(t, 100)

	// More come than there is room for: some are served, the others wait, and nobody is turned away.
	guests := make([]*guest, crowd)
	for i := range guests {
		guests[i] = knock(t, network, address)
	}
	waiting := func() (n []*guest) {
		for _, g := range guests {
			if !g.served() {
				n = append(n, g)
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return said.count("accept failed") > 0 && len(waiting()) <= crowd-spare }, patience, time.Millisecond)
	play.further(t, 500)
	assert.Len(t, waiting(), crowd-spare, "each descriptor serves somebody, the last one too")

	// A while in which nothing but accepting goes on.
	play.pause()
	spent, lines := processorTime(t, pid), said.count("\n")
	<-time.After(time.Second) // the time that is measured
	spent = processorTime(t, pid) - spent
	lines = said.count("\n") - lines
	play.resume()
	assert.Less(t, spent, 100*time.Millisecond, "processor time of 1 s")
	assert.LessOrEqual(t, lines, 3, "lines logged in 1 s")

	// One leaves, and one of those who wait comes in.
	before := waiting()
	for _, g := range guests {
		if g.served() {
			g.leave()
			break
		}
	}
	freed := time.Now()
	require.Eventually(t, func() bool { return len(waiting()) < len(before) }, patience, time.Millisecond)
	assert.Less(t, time.Since(freed), time.Second, "until one that waited was served")

	// All leave, and one comes that was not there before.
	for _, g := range guests {
		g.leave()
	}
	freed = time.Now()
	late := knock(t, network, address)
	require.Eventually(t, late.served, patience, time.Millisecond)
	assert.Less(t, time.Since(freed), time.Second, "until a new one was served")
	late.leave()
	play.further(t, 100)
	play.end(t)
}

// players play numbered conversations, each by itself, and count what they have got.
type players struct {
	bots   []*bot
	rounds []atomic.Int64
	gate   sync.RWMutex // held by each that is playing a round
	over   atomic.Bool
	all    sync.WaitGroup
}

func startPlayers(t *testing.T, network server.Network, address string, n int) *players {
	p := &players{rounds: make([]atomic.Int64, n)}
	for range n {
		p.bots = append(p.bots, newBot(t, network, address))
	}
	for who, b := range p.bots {
		p.all.Go(func() { p.play(t, who, b) })
	}
	t.Cleanup(func() { p.over.Store(true); p.all.Wait() })
	return p
}

func (p *players) play(t *testing.T, who int, b *bot) {
	for n := 0; !p.over.Load(); n++ {
		p.gate.RLock()
		b.Write(numbered(who, n))
		select {
		case packet := <-b.got:
			if !assert.Equal(t, numbered(who, n), packet, "player %d, packet %d", who, n) {
				p.over.Store(true)
			}
			p.rounds[who].Add(1)
		case <-timeout(t):
			t.Errorf("player %d: no answer to packet %d", who, n)
			p.over.Store(true)
		}
		p.gate.RUnlock()
	}
}

// further waits until each player has played so many rounds more.
func (p *players) further(t *testing.T, rounds int64) {
	t.Helper()
	for who := range p.rounds {
		goal := p.rounds[who].Load() + rounds
		require.Eventually(t, func() bool { return p.rounds[who].Load() >= goal || p.over.Load() }, patience, time.Millisecond)
	}
	require.False(t, p.over.Load(), "somebody has lost something")
}

func (p *players) pause()  { p.gate.Lock() }
func (p *players) resume() { p.gate.Unlock() }

func (p *players) end(t *testing.T) {
	p.over.Store(true)
	p.all.Wait()
	for who, b := range p.bots {
		assert.Zero(t, b.closed.Load(), "player %d was closed", who)
	}
}

// guest is a connection that says something as soon as it is let in, and wants an answer.
type guest struct {
	net.Conn
	greeted, left atomic.Bool
	done          chan struct{}
}

func knock(t *testing.T, network server.Network, address string) *guest {
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	g := &guest{Conn: conn, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		err := g.greet(network)
		g.greeted.Store(err == nil)
		if err != nil && !g.left.Load() {
			t.Errorf("a guest was turned away: %v", err)
		}
	}()
	t.Cleanup(g.leave)
	return g
}

func (g *guest) greet(network server.Network) (err error) {
	var answer []byte
	if network == server.NetworkWebsocket {
		var ws *websocket.Conn
		dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return g.Conn, nil }}
		if ws, _, err = dialer.Dial("ws://game.test/", nil); err != nil {
			return err
		}
		if err = ws.WriteMessage(websocket.BinaryMessage, []byte("hello")); err != nil {
			return err
		}
		_, answer, err = ws.ReadMessage()
	} else {
		if _, err = g.Write([]byte("\x00\x00\x00\x05hello")); err != nil {
			return err
		}
		answer, err = frame.NewReader(g.Conn, frame.Default(), 64, 0, 0).Next()
	}
	if err == nil && string(answer) != "hello" {
		err = fmt.Errorf("answered %q", answer)
	}
	return err
}

func (g *guest) served() bool { return g.greeted.Load() }

// leave closes the connection. Whoever left before being served stays unserved.
func (g *guest) leave() {
	g.left.Store(true)
	g.Close()
	<-g.done
}

// processorTime is what a process has had until now, in user mode and in the kernel.
func processorTime(t *testing.T, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third one on, proc(5)
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every system that Go runs on
}
