package client_test

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestRun(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network).echo()
			c := tt.client(b.addr)
			l := observe(c)
			assert.False(t, c.IsConnected())

			require.NoError(t, c.Run())
			assert.True(t, c.IsConnected())
			c.Write([]byte("hello"))
			assert.Equal(t, "hello", await(t, l.packets, "echo").data)
			c.Close()
			assert.False(t, c.IsConnected())
			assert.Nil(t, await(t, l.closed, "closed event"))
			assert.Equal(t, []string{"opened", "packet", "closed"}, l.all())
		})
	}
}

func TestRunBlock(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			l := observe(c)
			outcome := make(chan error, 1)
			run := func() { outcome <- c.Run(true) }

			go run()
			await(t, l.opened, "opened event")
			select {
			case err := <-outcome:
				require.Fail(t, "returned while connected", err)
			default:
			}
			await(t, b.conns, "connection").Close()
			assert.NoError(t, await(t, outcome, "outcome"), "the server ended it in order")
			assert.Nil(t, await(t, l.closed, "closed event"))

			reason := errors.New("enough")
			go run()
			await(t, l.opened, "opened event")
			c.Close(reason)
			assert.Equal(t, reason, await(t, outcome, "outcome"))
			assert.Equal(t, reason, await(t, l.closed, "closed event"))
		})
	}
}

func TestRunRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	ln.Close()
	for _, c := range []*client.Client{
		client.NewTCP(addr), client.NewWebsocket("ws://" + addr), client.NewUnixDomainSocket(t.TempDir() + "/none"),
	} {
		l := observe(c)
		for _, block := range []bool{false, true} {
			err := c.Run(block)
			var op *net.OpError
			require.ErrorAs(t, err, &op, c.GetServerAddr())
			assert.NotErrorIs(t, err, client.ErrClosed)
			assert.False(t, c.IsConnected())
		}
		assert.Empty(t, l.all(), "no event without a connection")
		assertJoined(t)
	}
}

func TestRunBadAddress(t *testing.T) {
	secure := client.WithTLS(nil)
	for _, tt := range []struct {
		name, addr string
		client     *client.Client
	}{
		{"ws empty", "", client.NewWebsocket("")},
		{"ws other scheme", "http://a.b/", client.NewWebsocket("http://a.b/")},
		{"ws no host", "ws:///path", client.NewWebsocket("ws:///path")},
		{"ws no URL", "ws://a b/", client.NewWebsocket("ws://a b/")},
		{"ws user", "ws://me@127.0.0.1:1/", client.NewWebsocket("ws://me@127.0.0.1:1/")},
		{"ws port", "ws://127.0.0.1:70000/", client.NewWebsocket("ws://127.0.0.1:70000/")},
		{"ws with TLS asked for", "ws://127.0.0.1:1/", client.NewWebsocket("ws://127.0.0.1:1/", secure)},
		{"tcp empty", "", client.NewTCP("")},
		{"tcp no port", "127.0.0.1", client.NewTCP("127.0.0.1")},
		{"tcp port", "127.0.0.1:70000", client.NewTCP("127.0.0.1:70000")},
		{"tcp URL", "tcp://127.0.0.1:1", client.NewTCP("tcp://127.0.0.1:1")},
		{"unix empty", "", client.NewUnixDomainSocket("")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.client.Run()
			require.ErrorIs(t, err, client.ErrBadAddress)
			assert.ErrorContains(t, err, `"`+tt.addr+`"`)
			assert.Equal(t, tt.addr, tt.client.GetServerAddr())
		})
	}
}

// A listener that accepts and says nothing: no answer to an upgrade, none to a TLS handshake.
func silent(t *testing.T) (addr string, asked <-chan struct{}) {
	started, ended := make(chan struct{}, 16), make(chan struct{})
	addr = listen(t, func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1)) // the request has begun
		started <- struct{}{}
		<-ended
	})
	t.Cleanup(func() { close(ended) })
	return addr, started
}

func handshakes(addr string, opts ...client.Option) map[string]*client.Client {
	return map[string]*client.Client{
		"ws":  client.NewWebsocket("ws://"+addr+"/", opts...),
		"wss": client.NewWebsocket("wss://"+addr+"/", opts...),
		"tls": client.NewTCP(addr, append(opts, client.WithTLS(nil))...),
	}
}

func TestDialTimeout(t *testing.T) {
	addr, _ := silent(t)
	for name, c := range handshakes(addr, client.WithDialTimeout(20*time.Millisecond)) {
		t.Run(name, func(t *testing.T) {
			within(t, "Run", func() {
				err := c.Run()
				var timeout interface{ Timeout() bool }
				require.ErrorAs(t, err, &timeout)
				assert.True(t, timeout.Timeout(), err)
				assert.ErrorContains(t, err, addr)
			})
		})
	}
}

func TestCloseWhileDialing(t *testing.T) {
	addr, asked := silent(t)
	for how, end := range map[string]func(*client.Client){
		"Close": func(c *client.Client) { c.Close(errors.New("enough")) },
		"Abort": func(c *client.Client) { c.Abort(errors.New("enough")) },
	} {
		for name, c := range handshakes(addr, client.WithDialTimeout(time.Hour)) {
			t.Run(how+"/"+name, func(t *testing.T) {
				l := observe(c)
				outcome := make(chan error, 1)
				go func() { outcome <- c.Run(true) }()
				await(t, asked, "request")
				within(t, how, func() { end(c) })
				assert.ErrorIs(t, await(t, outcome, "outcome"), client.ErrClosed)
				assert.Empty(t, l.all())
			})
		}
	}
}

func TestRunByBufferSize(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	c := client.NewTCP(b.addr)
	for _, size := range []int{0, -1} {
		assert.ErrorIs(t, c.RunByBufferSize(size), client.ErrBufferSize)
		assert.False(t, c.IsConnected())
	}
	require.NoError(t, c.RunByBufferSize(1))
	assert.ErrorIs(t, c.RunByBufferSize(0), client.ErrBufferSize)
	assert.True(t, c.IsConnected(), "a refused Run leaves the connection alone")
	c.Close()
}

func TestRunAnew(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			l := observe(c)
			const runs = 5
			var want []string
			for i := range runs {
				require.NoError(t, c.Run())
				await(t, b.conns, "connection")
				c.Write(numbered(i))
				want = append(want, "opened", "closed")
			}
			for i := range runs - 1 {
				assert.Nil(t, await(t, b.closed, "end of an older connection"))
				assert.Equal(t, string(numbered(i)), await(t, b.packets, "packet").data)
			}
			assert.Equal(t, want[:len(want)-1], l.all(), "each closed event before the next opened one")
			assert.True(t, c.IsConnected())
			c.Close()
			assert.Nil(t, await(t, b.closed, "end of the last connection"))
		})
	}
}

func TestRunFromHandler(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	for _, from := range []string{"receive", "closed", "callback"} {
		t.Run(from, func(t *testing.T) {
			c := client.NewTCP(b.addr)
			l := observe(c)
			again := make(chan error, 1)
			rerun := func() {
				if len(l.opened) == 1 { // not for the second connection
					again <- c.Run()
				}
			}
			switch from {
			case "receive":
				c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { rerun() })
			case "closed":
				c.RegConnectionClosedEvent(func(*client.Client, any) { rerun() })
			}
			require.NoError(t, c.Run())
			conn := await(t, b.conns, "connection")
			switch from {
			case "receive":
				conn.Write([]byte("x"))
			case "closed":
				conn.Close()
			case "callback":
				c.Write([]byte("x"), func(error) { rerun() })
			}
			require.NoError(t, await(t, again, "Run"))
			await(t, b.conns, "second connection")
			assert.Nil(t, await(t, l.closed, "closed event"))
			assert.True(t, c.IsConnected())
			c.Close()
			assert.Nil(t, await(t, l.closed, "closed event"))
			events := strings.Join(l.all(), " ")
			assert.Equal(t, 2, strings.Count(events, "opened"), events)
			assert.Equal(t, 2, strings.Count(events, "closed"), events)
		})
	}
}

// A closed handler may take its time: it has returned before the next opened one begins.
func TestRunAnewAfterClosedHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client.NewClient(newFakeCore())
		c.RegConnectionClosedEvent(func(*client.Client, any) { <-time.After(time.Second) })
		l := observe(c)
		require.NoError(t, c.Run())
		require.NoError(t, c.Run())
		assert.Equal(t, []string{"opened", "closed", "opened"}, l.all())
		c.Close()
		<-l.closed
		<-l.closed
	})
}

// A closed handler that always reconnects must not wait for the Run that closed its connection, nor that Run for it.
func TestRunAnewWhileClosedHandlerRuns(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	c := client.NewTCP(b.addr, client.WithWriteTimeout(time.Hour))
	again := make(chan error, 1)
	var once sync.Once
	c.RegConnectionClosedEvent(func(*client.Client, any) { once.Do(func() { again <- c.Run() }) })
	require.NoError(t, c.Run())
	within(t, "Run", func() {
		if err := c.Run(); err != nil {
			assert.ErrorIs(t, err, client.ErrClosed, "overtaken")
		}
	})
	assert.NoError(t, await(t, again, "Run of the handler"))
	assert.True(t, c.IsConnected())
	c.Close()
}

// The connection was made: however soon it ends, the events come in a pair and Run knows of no error of its own.
func TestServerClosesAtOnce(t *testing.T) {
	addr := listen(t, func(*net.TCPConn) {})
	c := client.NewTCP(addr)
	l := observe(c)
	for range 100 {
		require.NoError(t, c.Run(true))
		await(t, l.opened, "opened event")
		require.Nil(t, await(t, l.closed, "closed event"))
	}
}
