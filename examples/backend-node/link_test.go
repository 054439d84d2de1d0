package backendnode_test

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

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
		f.lose(t, p, i+1)
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
		f.lose(t, p, i+1)
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

// lose cuts a link of the gateway's, the nth one that it loses.
func (f *front) lose(t *testing.T, p *proxy, nth int) {
	p.cut()
	require.Eventually(t, func() bool { return f.Stats().LinksClosed == uint64(nth) }, patience, time.Millisecond)
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
