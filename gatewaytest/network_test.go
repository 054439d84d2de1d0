package gatewaytest_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// echo runs a server that sends back what it gets.
type echo struct {
	*server.Server
	opened chan *server.Conn
	closed chan any
}

func newEcho(n *gatewaytest.Network) *echo {
	e := &echo{
		Server: n.Server(server.WithLinks(),
			server.WithMaxPacketSize(client.DefaultMaxPacketSize)),
		opened: make(chan *server.Conn, 256), closed: make(chan any, 256),
	}
	e.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { e.opened <- conn })
	e.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
	e.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { e.closed <- err })
	return e
}

// bot is a client and what its handlers got.
type bot struct {
	*client.Client
	packets chan []byte
	closed  chan any
}

func newBot(c *client.Client) *bot {
	b := &bot{Client: c, packets: make(chan []byte, 1024), closed: make(chan any, 4)}
	b.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { b.packets <- packet })
	b.RegConnectionClosedEvent(func(_ *client.Client, err any) { b.closed <- err })
	return b
}

func TestNetworkCarriesPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gatewaytest.NewNetwork()
		e := newEcho(n)
		assert.Equal(t, "tranquillity", gwtest.Serve(t, e.Server, "tranquillity"))
		b := newBot(n.Client("tranquillity"))
		assert.Equal(t, "tranquillity", b.GetServerAddr())
		require.NoError(t, b.Run())
		for _, size := range []int{0, 1, 1 << 10, 70_000, client.DefaultMaxPacketSize} {
			packet := bytes.Repeat([]byte{byte(size + 1)}, size)
			b.Write(packet)
			require.True(t, bytes.Equal(packet, <-b.packets), "%d bytes", size)
		}
		for i := range 500 {
			b.Write(fmt.Append(nil, i))
		}
		for i := range 500 {
			require.Equal(t, fmt.Sprint(i), string(<-b.packets))
		}
		b.Close()
		assert.Nil(t, <-b.closed, "an orderly end")
		assert.Nil(t, <-e.closed, "an orderly end")
	})
}

func TestNetworkEnds(t *testing.T) {
	reason := errors.New("enough")
	cases := []struct {
		name   string
		end    func(n *gatewaytest.Network, e *echo, b *bot)
		client error // that its closed event gets
		server error
	}{
		{"client closes", func(_ *gatewaytest.Network, _ *echo, b *bot) { b.Close() }, nil, nil},
		{"server closes", func(_ *gatewaytest.Network, e *echo, _ *bot) { (<-e.opened).Close(reason) }, nil, reason},
		{"server shuts down", func(_ *gatewaytest.Network, e *echo, _ *bot) { e.Shutdown() }, nil, server.ErrGoingAway},
		{"cut", func(n *gatewaytest.Network, _ *echo, _ *bot) { n.Cut("a") }, syscall.ECONNRESET, syscall.ECONNRESET},
		{"cut elsewhere", func(n *gatewaytest.Network, _ *echo, b *bot) { n.Cut("b"); b.Close() }, nil, nil},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				n := gatewaytest.NewNetwork()
				e := newEcho(n)
				gwtest.Serve(t, e.Server, "a")
				b := newBot(n.Client("a"))
				require.NoError(t, b.Run())
				b.Write([]byte("x"))
				<-b.packets
				tt.end(n, e, b)
				assertReason(t, tt.client, <-b.closed)
				assertReason(t, tt.server, <-e.closed)
				assert.Equal(t, begun, time.Now(), "nobody waits for a timeout")
				synctest.Wait()
				assert.False(t, b.IsConnected())
				assert.Zero(t, e.GetOnlineCount())
			})
		})
	}
}

// A client learns why it was closed, as over WebSocket.
func TestNetworkTellsWhy(t *testing.T) {
	bye := &gatewaytest.CloseError{Code: 4000, Reason: "bye"}
	for _, tt := range []struct {
		name string
		end  func(conn *server.Conn)
		want any // that the closed event gets
	}{
		{"closed", func(conn *server.Conn) { conn.Close() }, nil},
		{"a code of one's own", func(conn *server.Conn) { conn.CloseWith(bye.Code, bye.Reason) }, bye},
		{"a normal end", func(conn *server.Conn) { conn.CloseWith(1000, "bye") }, nil},
		{"the server's end", func(conn *server.Conn) { conn.GetServer().Shutdown() }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := gatewaytest.NewNetwork()
				srv, opened := n.Server(), make(chan *server.Conn, 1)
				srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { opened <- conn })
				gatewaytest.Serve(t, srv, "a")
				b := newBot(n.Client("a"))
				require.NoError(t, b.Run())
				tt.end(<-opened)
				assert.Equal(t, tt.want, <-b.closed)
			})
		})
	}
}

func assertReason(t *testing.T, want error, got any) {
	t.Helper()
	if want == nil {
		assert.Nil(t, got)
		return
	}
	err, _ := got.(error)
	assert.ErrorIs(t, err, want)
}

func TestNetworkAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gatewaytest.NewNetwork()
		e := newEcho(n)
		gwtest.Serve(t, e.Server, "a")
		assert.Equal(t, "mem", e.Addr().Network())
		var conns []*server.Conn
		for _, c := range []*client.Client{
			n.Client("a"), n.Client("a"), n.ClientFrom("a", "10.1.2.3:4567"), n.ClientFrom("a", "[2001:db8::1]:9"),
		} {
			require.NoError(t, c.Run())
			defer c.Close()
			conns = append(conns, <-e.opened)
		}
		assert.Equal(t, "mem:1", conns[0].GetID())
		assert.Equal(t, "mem", conns[0].RemoteAddr().Network())
		assert.Empty(t, conns[0].GetIP())
		assert.Equal(t, "mem:2", conns[1].GetID())
		assert.Equal(t, "10.1.2.3:4567", conns[2].GetID())
		assert.IsType(t, &net.TCPAddr{}, conns[2].RemoteAddr())
		assert.Equal(t, "10.1.2.3", conns[2].GetIP())
		assert.Equal(t, "[2001:db8::1]:9", conns[3].GetID())
	})
	assert.Panics(t, func() { gatewaytest.NewNetwork().ClientFrom("a", "nowhere") })
}

func TestNetworkRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := gatewaytest.NewNetwork()
		c := n.Client("a")
		require.ErrorIs(t, c.Run(), syscall.ECONNREFUSED, "nobody listens")
		e := newEcho(n)
		gwtest.Serve(t, e.Server, "a")
		require.NoError(t, c.Run())
		n.Refuse("a", true)
		other := client.CloneClient(c)
		require.ErrorIs(t, other.Run(), syscall.ECONNREFUSED)
		assert.True(t, c.IsConnected(), "what is live stays")
		n.Refuse("a", false)
		require.NoError(t, other.Run())
		assert.NotEqual(t, (<-e.opened).GetID(), (<-e.opened).GetID(), "a clone has a connection of its own")
		assert.Equal(t, 4, n.Dials("a"))
		assert.Zero(t, n.Dials("b"))
		c.Close()
		other.Close()

		second := newEcho(n)
		assert.ErrorIs(t, second.Run("a"), syscall.EADDRINUSE)
		e.Shutdown()
		synctest.Wait()
		assert.ErrorIs(t, c.Run(), syscall.ECONNREFUSED, "nobody listens any more")
		gwtest.Serve(t, second.Server, "a")
		assert.NoError(t, c.Run(), "the name is free again")
		c.Close()
	})
}

// Many clients come, talk, are cut, and leave at once.
func TestNetworkConcurrently(t *testing.T) {
	n := gatewaytest.NewNetwork()
	gwtest.Serve(t, newEcho(n).Server, "a")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			b := newBot(n.Client("a"))
			for range 8 {
				if !assert.NoError(t, b.Run()) {
					return
				}
				outcome := make(chan error, 1)
				b.Write([]byte("x"), func(err error) { outcome <- err })
				if <-outcome == nil && i%8 == 0 {
					n.Cut("a")
				}
				b.Close()
				<-b.closed
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 32*8, n.Dials("a"))
}

// A client that was closed before it connects doesn't.
func TestNetworkClosedBeforeDial(t *testing.T) {
	n := gatewaytest.NewNetwork()
	gwtest.Serve(t, newEcho(n).Server, "a")
	core := gatewaytest.NewCore(n, "a")
	core.Close()
	state := make(chan error, 1)
	core.Run(state, nil)
	assert.ErrorIs(t, <-state, client.ErrClosed)
	assert.Zero(t, n.Dials("a"))
}
