// Package backendnode_test plays against a backend in another language, which knows the gateway from PROTOCOL.md only.
package backendnode_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
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

// converse sends numbered packets, window at a time, and checks each reply.
func converse(t *testing.T, p *player, who, packets, window int, replies *atomic.Int64) {
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

func TestEcho(t *testing.T) {
	const players, packets = 20, 200
	n := startNode(t, "--name", "echo")
	e := endpoint(n.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	var playing sync.WaitGroup
	var replies atomic.Int64
	for who := range players {
		p := f.join(t)
		playing.Go(func() { converse(t, p, who, packets, 8, &replies) })
	}
	playing.Wait()
	p := f.join(t)
	assert.Equal(t, "", p.ask(t, ""), "an empty packet is a packet")
	large := strings.Repeat("x", server.DefaultMaxPacketSize)
	assert.Equal(t, large, p.ask(t, large))
	assert.Equal(t, fmt.Sprint(players+1), p.ask(t, "opens"))
	assert.Equal(t, "4", p.ask(t, "count"))
	stats := f.Stats()
	assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.DroppedMalformed+stats.ControlStray+stats.ControlUnknown)
	assert.Zero(t, f.failed.Load())
	assert.EqualValues(t, 2, stats.LinksOpened)
	n.end(t, os.Interrupt)
}

// A session knows its player, a WebSocket player gets each packet in the type that it used itself, and is closed with the code
// that the backend gave, behind what was written before.
func TestOpenedAndClosed(t *testing.T) {
	n := startNode(t)
	f := newFront(t, "websocket", 2, []*gateway.Endpoint{endpoint(n.address)},
		gateway.WithOpenAttributes(func(*server.Conn) map[string]string { return map[string]string{"language": "eo"} }))
	for _, test := range []struct {
		said, reason string
		code         int
	}{{"close 4001 cheater", "cheater", 4001}, {"close 1002 cheater", "", 1008}} {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+f.address, nil)
		require.NoError(t, err)
		defer ws.Close()
		require.NoError(t, ws.SetReadDeadline(time.Now().Add(patience)))
		for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage, websocket.TextMessage} {
			require.NoError(t, ws.WriteMessage(kind, []byte("who")))
			got, packet, err := ws.ReadMessage()
			require.NoError(t, err)
			assert.Equal(t, kind, got)
			assert.JSONEq(t, fmt.Sprintf(`{"address": %q, "transport": "websocket", "type": %d, "congested": false,
				"attributes": {"language": "eo"}}`, ws.LocalAddr(), kind), string(packet))
		}
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("last words")))
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte(test.said)))
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("too late")))
		_, packet, err := ws.ReadMessage()
		require.NoError(t, err)
		assert.Equal(t, "last words", string(packet))
		_, _, err = ws.ReadMessage()
		var closed *websocket.CloseError
		require.True(t, errors.As(err, &closed), "%v", err)
		assert.Equal(t, test.code, closed.Code)
		if test.reason != "" {
			assert.Equal(t, test.reason, closed.Text)
		}
	}
	assert.EqualValues(t, 2, f.Stats().Kicked)
	p := f.join(t)
	assert.Equal(t, "3", p.ask(t, "opens"))
}

// Release ends the session and keeps the player, whose next packet opens another one.
func TestRelease(t *testing.T) {
	n := startNode(t)
	e := endpoint(n.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	p := f.join(t)
	assert.Equal(t, "hello", p.ask(t, "hello"))
	assert.Equal(t, "2", p.ask(t, "count"))
	p.say("release")
	require.Eventually(t, func() bool { return e.Sessions() == 0 }, patience, time.Millisecond)
	assert.Equal(t, "1", p.ask(t, "count"), "a new session")
	assert.Equal(t, "2", p.ask(t, "opens"))
	assert.Zero(t, f.Stats().ControlStray)
}

// What is said in a room reaches its members behind every gateway, and nobody else; what is said to all on the lane stays there.
func TestCasts(t *testing.T) {
	n := startNode(t)
	one := gateway.WithEndpointConnectionPoolSize(1) // all players on one lane
	here, there := endpoint(n.address), endpoint(n.address, one)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{here})
	other := newFront(t, "tcp", 1, []*gateway.Endpoint{there})
	var all []*player
	for i := range 6 {
		front := f
		if i >= 4 {
			front = other
		}
		all = append(all, front.join(t))
		assert.Equal(t, "hello", all[i].ask(t, "hello"))
	}
	members := []*player{all[0], all[1], all[2], all[4]} // pool 2: on both lanes
	for _, p := range members {
		p.say("join red")
		assert.Equal(t, "joined", p.ask(t, "joined"))
	}
	all[3].say("say red to the room")
	for _, p := range members {
		assert.Equal(t, "to the room", p.next(t))
	}
	all[0].say("leave red")
	assert.Equal(t, "left", all[0].ask(t, "left"))
	members[1].say("say red once more")
	for _, p := range members[1:] {
		assert.Equal(t, "once more", p.next(t))
	}
	all[5].say("all on this lane")
	for _, p := range all[4:] {
		assert.Equal(t, "on this lane", p.next(t))
	}
	all[2].say("others to the others")
	for i, p := range all {
		if i != 2 {
			assert.Equal(t, "to the others", p.next(t))
		}
	}
	all[2].say("everyone to everyone")
	for _, p := range all {
		assert.Equal(t, "to everyone", p.next(t))
	}
	for _, p := range all {
		assert.Equal(t, "the end", p.ask(t, "the end"), "nothing else came")
	}
	for _, g := range []*front{f, other} {
		assert.NotZero(t, g.Stats().Casts)
		assert.Zero(t, g.Stats().DroppedNotOpen+g.Stats().ControlStray)
	}
}

// Both sides have to know the same secret; nobody gets in otherwise.
func TestSecrets(t *testing.T) {
	const secret, other = "sixteen bytes or more", "another one, as long as that"
	for _, test := range []struct {
		name    string
		node    []string
		gateway []gateway.EndpointOption
		trusted bool
	}{
		{"right", []string{"--secret", secret}, []gateway.EndpointOption{gateway.WithLinkSecret([]byte(secret))}, true},
		{"previous", []string{"--secret", secret}, []gateway.EndpointOption{gateway.WithLinkSecret([]byte(other), []byte(secret))}, true},
		{"wrong", []string{"--secret", secret}, []gateway.EndpointOption{gateway.WithLinkSecret([]byte(other))}, false},
		{"only the backend's", []string{"--secret", secret}, nil, false},
		{"only the gateway's", nil, []gateway.EndpointOption{gateway.WithLinkSecret([]byte(secret))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := startNode(t, test.node...)
			e := endpoint(n.address, test.gateway...)
			if test.trusted {
				f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
				assert.Equal(t, "hello", f.join(t).ask(t, "hello"))
				return
			}
			f := newFront(t, "tcp", 0, []*gateway.Endpoint{e}, gateway.WithLogger(slog.New(slog.DiscardHandler)))
			require.Eventually(t, func() bool {
				return strings.Count(n.log.String(), "link")+strings.Count(n.log.String(), "refused") >= 4
			},
				patience, time.Millisecond, "links are tried again and again")
			assert.Zero(t, f.Stats().LinksOpened)
			_, err := f.GetEndpoint("game")
			assert.ErrorIs(t, err, gateway.ErrEndpointNotExists)
		})
	}
}

// Players are switched between two processes while they play. Nothing is lost, doubled or reordered, and the count that each
// process keeps of a player's packets goes along.
func TestMove(t *testing.T) {
	const players, packets, switches = 20, 300, 10
	a, b := startNode(t), startNode(t)
	ea, eb := endpoint(a.address), endpoint(b.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{ea, eb})
	var playing sync.WaitGroup
	var replies atomic.Int64
	all := make([]*player, players)
	for who := range all {
		all[who] = f.join(t)
		playing.Go(func() { converse(t, all[who], who, packets, 8, &replies) })
	}
	for i := range switches {
		due := int64(players * packets * (i + 1) / (switches + 2))
		require.Eventually(t, func() bool { return replies.Load() >= due }, patience, time.Millisecond)
		f.SwitchEndpoint(ea, eb)
		ea, eb = eb, ea
	}
	playing.Wait()
	for _, p := range all {
		assert.Equal(t, strconv.Itoa(packets+1), p.ask(t, "count"))
	}
	stats := f.Stats()
	assert.Zero(t, f.failed.Load())
	assert.Zero(t, stats.MovesTimedOut)
	assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.ControlStray)
	opens := 0
	for i, n := range []*node{a, b} { // a player of each one, so that both answer
		p := newFront(t, "tcp", 2, []*gateway.Endpoint{endpoint(n.address)}).join(t)
		opened, err := strconv.Atoi(p.ask(t, "opens"))
		require.NoError(t, err)
		assert.Greater(t, opened, players, "process %d", i)
		opens += opened
	}
	assert.LessOrEqual(t, opens, players*(switches+1)+2)
}

// A backend hands a player over to an endpoint of another name, with its count; where there is none, the player stays.
func TestHandoff(t *testing.T) {
	lobby, match := startNode(t), startNode(t)
	el := endpoint(lobby.address)
	em := gateway.NewEndpoint("match", client.NewTCP(match.address), gateway.WithEndpointConnectionPoolSize(2))
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{el, em})
	p := f.join(t)
	p.say("handoff nowhere")
	assert.Equal(t, "2", p.ask(t, "count"))
	require.Eventually(t, func() bool { return f.Stats().HandoffsFailed == 1 }, patience, time.Millisecond)
	p.say("handoff match")
	require.Eventually(t, func() bool { return em.Sessions() == 1 && el.Sessions() == 0 }, patience, time.Millisecond)
	assert.Equal(t, "4", p.ask(t, "count"))
	assert.Equal(t, "1", p.ask(t, "opens"))
}

// A process that is told to end has its players moved elsewhere, and ends.
func TestDrain(t *testing.T) {
	const players, packets = 10, 200
	a, b := startNode(t), startNode(t)
	ea, eb := endpoint(a.address), endpoint(b.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{ea, eb})
	var playing sync.WaitGroup
	var replies atomic.Int64
	all := make([]*player, players)
	for who := range all {
		all[who] = f.join(t)
		playing.Go(func() { converse(t, all[who], who, packets, 8, &replies) })
	}
	require.Eventually(t, func() bool { return replies.Load() >= players*packets/4 }, patience, time.Millisecond)
	a.end(t, syscall.SIGTERM)
	playing.Wait()
	for _, p := range all {
		assert.Equal(t, strconv.Itoa(packets+1), p.ask(t, "count"))
	}
	assert.Equal(t, players, eb.Sessions())
}

// A link that is cut under traffic costs what was on it, and nothing else: sessions go on without a second opening, in order, and
// what was lost is exactly what both sides have counted.
func TestLostLinks(t *testing.T) {
	const players, packets, cuts = 10, 600, 6
	n := startNode(t)
	p := newProxy(t, n.address)
	e := endpoint(p.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	var playing sync.WaitGroup
	all := make([]*player, players)
	for who := range all {
		all[who] = f.join(t)
		playing.Go(func() {
			for i := range packets {
				wrote := make(chan struct{})
				all[who].Write(numbered(who, i), func(error) { close(wrote) })
				<-wrote
			}
		})
	}
	for i := range cuts {
		due := uint64(players * packets * (i + 1) / (cuts + 2))
		require.Eventually(t, func() bool {
			return f.Stats().PacketsReceived >= due && e.Links() == 2 && p.connections() == 2
		}, patience, time.Millisecond)
		p.cut()
		require.Eventually(t, func() bool { return f.Stats().LinksClosed == uint64(i+1) }, patience, time.Millisecond)
	}
	playing.Wait()
	up(t, e, 2)
	reached, returned := 0, 0
	for who, each := range all {
		each.say("count")
		last := -1
		for {
			packet := []byte(each.next(t))
			if len(packet) != 12 {
				count, err := strconv.Atoi(string(packet))
				require.NoError(t, err)
				reached += count - 1
				break
			}
			require.EqualValues(t, who, binary.BigEndian.Uint32(packet))
			number := int(binary.BigEndian.Uint64(packet[4:]))
			require.Greater(t, number, last, "doubled or reordered")
			last = number
			returned++
		}
	}
	assert.Equal(t, strconv.Itoa(players), all[0].ask(t, "opens"))
	stats := f.Stats()
	assert.EqualValues(t, players*packets-reached, stats.LostUp+uint64(f.failed.Load()))
	assert.EqualValues(t, reached-returned, stats.LostDown)
	t.Logf("lost %d up, %d down; not forwarded %d; stray control %d, data %d", stats.LostUp, stats.LostDown, f.failed.Load(),
		stats.ControlStray, stats.DroppedNotOpen)
}

// A room's members stay members on another link.
func TestRoomsOutliveLinks(t *testing.T) {
	n := startNode(t)
	p := newProxy(t, n.address)
	e := endpoint(p.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	all := make([]*player, 4)
	for i := range all {
		all[i] = f.join(t)
		all[i].say("join red")
		assert.Equal(t, "joined", all[i].ask(t, "joined"))
	}
	for i := range 2 {
		p.cut()
		require.Eventually(t, func() bool { return f.Stats().LinksClosed == uint64(i+1) }, patience, time.Millisecond)
		up(t, e, 2)
		for _, each := range all {
			assert.Equal(t, "here", each.ask(t, "here"))
		}
		all[i].say("say red again")
		for _, each := range all {
			assert.Equal(t, "again", each.next(t))
		}
	}
	assert.Equal(t, "4", all[0].ask(t, "opens"))
	assert.Equal(t, "the end", all[1].ask(t, "the end"), "nothing came twice")
}

// proxy stands between a gateway and an endpoint, and cuts connections.
type proxy struct {
	address string
	mu      sync.Mutex
	pipes   [][2]*net.TCPConn
}

func newProxy(t *testing.T, target string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: ln.Addr().String()}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			pipe := [2]*net.TCPConn{near.(*net.TCPConn), far.(*net.TCPConn)}
			p.mu.Lock()
			p.pipes = append(p.pipes, pipe)
			p.mu.Unlock()
			working.Go(func() { p.carry(pipe) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		for p.cut() {
		}
		working.Wait()
	})
	return p
}

// carry carries what is sent, either way, to the end of both.
func (p *proxy) carry(pipe [2]*net.TCPConn) {
	var both sync.WaitGroup
	for i := range pipe {
		both.Go(func() {
			_, _ = io.Copy(pipe[i], pipe[1-i])
			_ = pipe[i].CloseWrite()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pipes = slices.DeleteFunc(p.pipes, func(each [2]*net.TCPConn) bool { return each == pipe })
		})
	}
	both.Wait()
	for _, conn := range pipe {
		conn.Close()
	}
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pipes)
}

// cut cuts the oldest connection, whatever it is in the middle of.
func (p *proxy) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pipes) == 0 {
		return false
	}
	for _, conn := range p.pipes[0] {
		_ = conn.SetLinger(0)
		conn.Close()
	}
	p.pipes = p.pipes[1:]
	return true
}

// raw is a gateway's link, made by hand.
type raw struct{ net.Conn }

func dialRaw(t *testing.T, address string) raw {
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return raw{conn}
}

// send sends a packet, as bytes in hexadecimal behind the identifier.
func (r raw) send(t *testing.T, bytes string) {
	packet, err := hex.DecodeString("deadbeef" + strings.ReplaceAll(bytes, " ", ""))
	require.NoError(t, err)
	_, err = r.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...))
	require.NoError(t, err)
}

// next returns the next packet behind its length, in hexadecimal.
func (r raw) next(t *testing.T) string {
	length := make([]byte, 4)
	_, err := io.ReadFull(r, length)
	require.NoError(t, err)
	packet := make([]byte, binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(r, packet)
	require.NoError(t, err)
	return hex.EncodeToString(packet)
}

const (
	nobody = "000000000000"
	key    = "cb0071071267"
	down   = key + "00000000"
)

var hello = nobody + "010101" + strings.Repeat("07", 48) + "0372617700"

// control expects a control packet.
func (r raw) control(t *testing.T, body, what string) {
	assert.Equal(t, nobody+"00000000"+strings.ReplaceAll(body, " ", ""), r.next(t), what)
}

// ask says a word for the player, and expects an answer.
func (r raw) ask(t *testing.T, word, answer string) {
	r.send(t, key+hex.EncodeToString([]byte(word)))
	assert.Equal(t, down+hex.EncodeToString([]byte(answer)), r.next(t))
}

// opens sends OPEN with an attach number, flags, counts and a state.
func (r raw) opens(t *testing.T, attach, flags, written, received int, state string) {
	r.send(t, fmt.Sprintf("%s05%s%08x%02x%016x%016x00%02x%x%02x%x0000%08x%x", nobody, key, attach, flags, written, received,
		3, "tcp", 16, "203.0.113.7:4711", len(state), state))
}

// link does the handshake.
func (r raw) link(t *testing.T) {
	r.send(t, hello)
	assert.Regexp(t, "^"+nobody+"00000000"+"0201[0-9a-f]{96}"+"046e6f6465"+"0000$", r.next(t), "WELCOME")
	r.control(t, "0400", "READY")
}

// Whatever is wrong with a packet, or with the handshake, costs the link, and the link only.
func TestRefuses(t *testing.T) {
	n := startNode(t)
	good := dialRaw(t, n.address)
	good.link(t)
	for _, test := range []struct {
		name   string
		linked bool
		send   func(r raw)
	}{
		{"silence", false, func(raw) {}},
		{"a player's packet first", false, func(r raw) { r.send(t, key+"68656c6c6f") }},
		{"a PING first", false, func(r raw) { r.send(t, nobody+"10 0000000000000001") }},
		{"half a HELLO", false, func(r raw) { r.send(t, hello[:60]) }},
		{"no version", false, func(r raw) { r.send(t, nobody+"010001"+hello[18:]) }},
		{"a later version", false, func(r raw) { r.send(t, nobody+"010209"+hello[18:]) }},
		{"not a gateway", false, func(r raw) { _, _ = r.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }},
		{"too large", true, func(r raw) { _, _ = r.Write([]byte{0, 1, 0, 65}) }},
		{"no header", true, func(r raw) { _, _ = r.Write([]byte{0, 0, 0, 1, 0xDE}) }},
		{"another identifier", true, func(r raw) { _, _ = r.Write([]byte("\x00\x00\x00\x0aabcdefghij")) }},
		{"no type", true, func(r raw) { r.send(t, nobody) }},
		{"half a PING", true, func(r raw) { r.send(t, nobody+"10 00000000") }},
		{"half an OPEN", true, func(r raw) { r.send(t, nobody+"05"+key+"00000001 00") }},
		{"a state longer than its OPEN", true, func(r raw) {
			r.send(t, nobody+"05"+key+"00000001 00 0000000000000000 0000000000000000 00 00 00 0000 00000001")
		}},
		{"a state that is too large", true, func(r raw) { r.opens(t, 1, 0, 0, 0, strings.Repeat("x", 32<<10+1)) }},
		{"an OPEN of nobody", true, func(r raw) {
			r.send(t, nobody+"05"+nobody+"00000001 00 0000000000000000 0000000000000000 00 00 00 0000 00000000")
		}},
		{"a FLOW about nobody", true, func(r raw) { r.send(t, nobody+"12"+nobody+"01") }},
		{"another HELLO", true, func(r raw) { r.send(t, hello) }},
		{"an AUTH that is not due", true, func(r raw) { r.send(t, nobody+"03 00") }},
		{"half a FLOW", true, func(r raw) { r.send(t, nobody+"12"+key+"01 cb00") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := dialRaw(t, n.address)
			if test.linked {
				r.link(t)
			}
			test.send(r)
			_, err := io.ReadAll(r)
			assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), "it is not closed")
		})
	}
	good.send(t, nobody+"77 ff")                    // a type that nobody knows
	good.send(t, nobody+"10 0000000000000001 0203") // with something that a later version may put there
	good.control(t, "11 0000000000000001", "PONG")
}

// The table of section 4, and the counts of section 5, from a gateway made by hand.
func TestSessionStates(t *testing.T) {
	n := startNode(t)
	a, b := dialRaw(t, n.address), dialRaw(t, n.address)
	a.link(t)
	b.link(t)
	a.opens(t, 1, 0, 0, 0, "41")
	a.ask(t, "count", "42")
	a.opens(t, 1, 0, 0, 0, "") // a late one
	b.send(t, key+"78")        // not its lane
	b.send(t, nobody+"07"+key+"01")
	b.send(t, nobody+"12"+key+"01")
	b.send(t, nobody+"10 0000000000000001")
	b.control(t, "11 0000000000000001", "PONG")
	a.ask(t, "count", "43")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":0,"congested":false,"attributes":{}}`)
	a.send(t, nobody+"12"+key+"01")
	a.send(t, nobody+"07"+key+"02")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":2,"congested":true,"attributes":{}}`)
	a.send(t, nobody+"12"+key+"00")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":2,"congested":false,"attributes":{}}`)

	b.opens(t, 2, 1, 7, 4, "")
	b.control(t, "06"+key+"00000002 00 0000000000000005 0000000000000005", "ATTACHED")
	_, err := io.ReadAll(a)
	assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the old lane is closed")
	b.send(t, nobody+"08"+key+"00000001 01") // a late one
	b.send(t, nobody+"08"+key+"00000001 02") // another, for whose answer a gateway may be waiting
	b.control(t, "09"+key+"00000001 00000000", "CLOSED, of a number that is past")
	b.ask(t, "count", "47")
	b.opens(t, 3, 0, 0, 0, "") // CLOSE got lost
	b.ask(t, "count", "1")
	b.ask(t, "opens", "2")

	b.send(t, key+hex.EncodeToString([]byte("release")))
	b.control(t, "0b"+key, "RELEASE")
	b.send(t, key+"78") // was on its way
	b.opens(t, 4, 1, 4, 2, "")
	b.control(t, "0b"+key, "RELEASE, once more")
	b.send(t, key+"78")
	b.opens(t, 5, 0, 0, 0, "")
	b.ask(t, "opens", "3")
	b.send(t, key+hex.EncodeToString([]byte("close 4000 bye")))
	b.control(t, "0a"+key+"0fa0 03627965", "KICK")
	c := dialRaw(t, n.address)
	c.link(t)
	c.opens(t, 6, 1, 2, 1, "")
	c.control(t, "0a"+key+"0fa0 03627965", "KICK, once more")
	_, err = io.ReadAll(b)
	assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the old lane is closed")
	c.send(t, nobody+"08"+key+"00000006 02")
	c.control(t, "09"+key+"00000006 00000000", "CLOSED, of one that is gone")
	c.send(t, nobody+"08"+key+"00000006 02")
	c.control(t, "09"+key+"00000006 00000000", "CLOSED, of one that is not there")
	c.opens(t, 7, 0, 0, 0, "7")
	c.send(t, nobody+"08"+key+"00000007 02")
	c.control(t, "09"+key+"00000007 00000001 37", "CLOSED, with its state")

	c.opens(t, 8, 0, 0, 0, "")
	c.ask(t, "count", "1")
	c.send(t, nobody+"14 04") // GOAWAY: nothing waits for the gateway
	c.Close()
	d := dialRaw(t, n.address)
	require.Eventually(t, func() bool { return strings.Count(n.log.String(), "unlink") == 3 }, patience, time.Millisecond)
	d.link(t)
	d.opens(t, 9, 1, 1, 1, "")
	d.control(t, "06"+key+"00000009 01 0000000000000000 0000000000000000", "ATTACHED, opened anew")
}

// A session that has expired is opened anew, and its counts go on: what was lost meanwhile is counted, and what came is not. One
// that is opened afresh begins to count anew.
func TestExpiredSession(t *testing.T) {
	n := startNode(t, "--grace", "300")
	expire := func(times int) {
		require.Eventually(t, func() bool { return strings.Count(n.log.String(), "expired 203.0.113.7:4711") == times }, patience,
			time.Millisecond)
	}
	a := dialRaw(t, n.address)
	a.link(t)
	a.opens(t, 1, 0, 0, 0, "")
	a.ask(t, "count", "1")
	a.ask(t, "hello", "hello")
	a.Close()
	expire(1)
	b := dialRaw(t, n.address)
	b.link(t)
	b.opens(t, 2, 1, 3, 1, "")
	b.control(t, "06"+key+"00000002 01 0000000000000002 0000000000000002", "ATTACHED, opened anew, with its counts")
	b.ask(t, "count", "1")
	b.Close()
	expire(2)
	c := dialRaw(t, n.address)
	c.link(t)
	c.opens(t, 3, 0, 0, 0, "")
	c.ask(t, "opens", "3")
	d := dialRaw(t, n.address)
	d.link(t)
	d.opens(t, 4, 1, 1, 1, "")
	d.control(t, "06"+key+"00000004 00 0000000000000001 0000000000000001", "ATTACHED, of one that was opened afresh")
	d.send(t, nobody+"08"+key+"00000004 01")
	d.opens(t, 5, 1, 1, 1, "")
	d.control(t, "06"+key+"00000005 01 0000000000000000 0000000000000000", "ATTACHED, of one that was closed")
	d.ask(t, "count", "1")
	d.Close()
	expire(3)
	e := dialRaw(t, n.address)
	e.link(t)
	e.send(t, nobody+"08"+key+"00000005 01")
	e.opens(t, 6, 1, 1, 1, "")
	e.control(t, "06"+key+"00000006 01 0000000000000000 0000000000000000", "ATTACHED, of one that was closed when it had expired")
}
