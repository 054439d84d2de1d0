package client_test

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/wsio"
	"github.com/minotaur-gateway/gateway/server"
)

// connWriter lets an upgrader have a connection that no HTTP server accepted.
type connWriter struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (w connWriter) Header() http.Header                          { return http.Header{} }
func (w connWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, w.rw, nil }

// upgradeConn answers the WebSocket request on conn.
func upgradeConn(t testing.TB, conn net.Conn) *websocket.Conn {
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	req, err := http.ReadRequest(rw.Reader)
	if !assert.NoError(t, err) {
		return nil
	}
	ws, err := new(websocket.Upgrader).Upgrade(connWriter{conn: conn, rw: rw}, req, nil)
	assert.NoError(t, err)
	return ws
}

func upgrade(t testing.TB, peers <-chan net.Conn) *websocket.Conn {
	return upgradeConn(t, <-peers)
}

// readAll reads ws until its end.
func readAll(ws *websocket.Conn) {
	defer ws.Close()
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return
		}
	}
}

func TestWebsocketTypes(t *testing.T) {
	b := serve(t, server.NetworkWebsocket).echo()
	c := client.NewWebsocket("ws://" + b.addr + "/ws")
	l := observe(c)
	require.NoError(t, c.Run())
	defer c.Close()
	c.Write([]byte("a"))
	c.WriteWS(0, []byte("b"))
	c.WriteWS(1, []byte("c"))
	c.WriteWS(2, []byte("d"))
	for _, want := range []received{{2, "a"}, {2, "b"}, {1, "c"}, {2, "d"}} {
		assert.Equal(t, want, await(t, b.packets, "packet"))
		assert.Equal(t, want, await(t, l.packets, "echo"))
	}
	outcome := make(chan error, 1)
	c.WriteWS(7, []byte("e"), func(err error) { outcome <- err })
	assert.ErrorContains(t, await(t, outcome, "callback"), "message type 7")
	assert.True(t, c.IsConnected())
}

func TestWithHeader(t *testing.T) {
	b := serve(t, server.NetworkWebsocket)
	header := http.Header{"X-Token": {"one", "two"}}
	c := client.NewWebsocket("ws://"+b.addr+"/ws?room=7", client.WithHeader(header))
	header.Set("X-Token", "changed later")
	for range 2 {
		require.NoError(t, c.Run())
		conn := await(t, b.conns, "connection")
		req := conn.GetWebsocketRequest()
		require.NotNil(t, req)
		assert.Equal(t, []string{"one", "two"}, req.Header["X-Token"])
		assert.Equal(t, "7", conn.GetData("room"))
	}
	c.Close()
}

func TestWebsocketRefused(t *testing.T) {
	b := serve(t, server.NetworkWebsocket)
	c := client.NewWebsocket("ws://" + b.addr + "/elsewhere")
	err := c.Run()
	require.ErrorIs(t, err, websocket.ErrBadHandshake)
	assert.ErrorContains(t, err, "404")
	assert.ErrorContains(t, err, "/elsewhere")
}

func TestWebsocketCloseCodes(t *testing.T) {
	for _, tt := range []struct {
		code    int
		orderly bool
	}{{1000, true}, {1001, true}, {1008, false}, {1011, false}, {4000, false}} {
		b := serve(t, server.NetworkWebsocket)
		c := client.NewWebsocket("ws://" + b.addr + "/ws")
		l := observe(c)
		require.NoError(t, c.Run())
		await(t, b.conns, "connection").CloseWith(tt.code, "because")
		got := await(t, l.closed, "closed event")
		if tt.orderly {
			assert.Nil(t, got, tt.code)
			continue
		}
		err, _ := got.(error)
		var closed *websocket.CloseError
		require.ErrorAs(t, err, &closed, tt.code)
		assert.Equal(t, tt.code, closed.Code)
		assert.Equal(t, "because", closed.Text)
	}
}

// A server whose packet was too large is told so, whatever it has sent behind it.
func TestWebsocketReceiveTooLarge(t *testing.T) {
	outcome := make(chan error, 1)
	addr := listen(t, func(conn *net.TCPConn) {
		ws := upgradeConn(t, conn)
		assert.NoError(t, ws.WriteMessage(websocket.BinaryMessage, make([]byte, 2000)))
		assert.NoError(t, ws.WriteMessage(websocket.BinaryMessage, make([]byte, 8<<20)))
		_, _, err := ws.ReadMessage()
		outcome <- err
	})
	c := client.NewWebsocket("ws://"+addr, client.WithMaxPacketSize(1000))
	assert.ErrorIs(t, c.Run(true), client.ErrPacketTooLarge)
	err := await(t, outcome, "close frame")
	assert.True(t, websocket.IsCloseError(err, websocket.CloseMessageTooBig), err)
}

// A server that accepts the upgrade and then answers nothing, not even pings: pinged after 5 s of silence, dead 5 s later.
func TestWebsocketHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		var pings atomic.Int32
		go func() {
			ws := upgrade(t, peers)
			ws.SetPingHandler(func(string) error { pings.Add(1); return nil })
			readAll(ws)
		}()
		c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory)
		l := observe(c)
		start := time.Now()
		assert.ErrorIs(t, c.Run(true), wsio.ErrReadTimeout)
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.Positive(t, pings.Load())
		err, _ := (<-l.closed).(error)
		assert.ErrorIs(t, err, wsio.ErrReadTimeout)
	})
}

// A quiet server that answers pings lives, and the pong event tells how long that took.
func TestWebsocketPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		go func() {
			ws := upgrade(t, peers)
			ws.SetPingHandler(func(data string) error {
				<-time.After(30 * time.Millisecond) // the way back
				return ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
			})
			readAll(ws)
		}()
		c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory)
		delays := make(chan time.Duration, 100)
		c.RegPongEvent(func(conn *client.Client, delay time.Duration) {
			assert.True(t, c == conn)
			delays <- delay
		})
		require.NoError(t, c.Run())
		assert.Equal(t, 30*time.Millisecond, <-delays)
		<-time.After(time.Minute)
		assert.True(t, c.IsConnected())
		assert.GreaterOrEqual(t, len(delays), 6)
		for range len(delays) {
			assert.Equal(t, 30*time.Millisecond, <-delays)
		}
		c.Close()
	})
}

// Pong handlers are handlers: after opened, one at a time, and they may close the client.
func TestPongHandler(t *testing.T) {
	for _, does := range []string{"close", "panic"} {
		synctest.Test(t, func(t *testing.T) {
			inMemory, peers := pipes()
			go func() { readAll(upgrade(t, peers)) }()
			logger, lines := logged()
			c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory, client.WithLogger(logger), client.WithWriteTimeout(time.Hour))
			l := observe(c)
			c.RegConnectionOpenedEvent(func(*client.Client) {
				<-time.After(8 * time.Second) // the first ping has been answered
				l.add("opened")
			})
			c.RegPongEvent(func(c *client.Client, _ time.Duration) {
				l.add("pong")
				if does == "panic" {
					panic("oops")
				}
				c.Close()
			})
			start := time.Now()
			err := c.Run(true)
			assert.Less(t, time.Since(start), time.Minute)
			assert.Equal(t, []string{"opened", "opened", "pong", "closed"}, l.all())
			if does == "panic" {
				assert.ErrorContains(t, err, "Pong handler panicked: oops")
				assert.Contains(t, <-lines, "event=Pong")
			} else {
				assert.NoError(t, err)
			}
		})
	}
}

// A ping that finds no room, because the answer to the server's own is stuck, must not be the last one.
func TestPingsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		go func() {
			ws := upgrade(t, peers)
			assert.NoError(t, ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)))
			<-time.After(9 * time.Second) // and doesn't read the pong meanwhile
			readAll(ws)
		}()
		c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory, client.WithWriteTimeout(time.Minute))
		require.NoError(t, c.Run())
		<-time.After(time.Minute)
		assert.True(t, c.IsConnected())
		c.Close()
	})
}
