package client_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// wsPeer answers the request for a WebSocket and hands the connection to handle.
func wsPeer(t testing.TB, handle func(ws *websocket.Conn)) string {
	return listen(t, func(conn *net.TCPConn) {
		if ws := upgradeConn(t, conn); ws != nil {
			handle(ws)
		}
	})
}

// Each frame of a client has a key of its own, and no connection has another's (RFC 6455, section 5.3).
func TestMasksDiffer(t *testing.T) {
	const n, size = 1000, 5
	for _, tt := range websockets(newCertificate(t)) {
		if tt.secure {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			frames := make(chan []byte, 2)
			addr := listen(t, func(conn *net.TCPConn) {
				r := answerWith(t, conn, "", nil)
				all := make([]byte, n*(2+4+size))
				_, err := io.ReadFull(r, all)
				assert.NoError(t, err)
				frames <- all
			})
			seen := map[[4]byte]int{}
			for range 2 {
				c := tt.client(addr)
				require.NoError(t, c.Run())
				for range n {
					c.Write([]byte("hello"))
				}
				all := await(t, frames, "frames")
				for len(all) > 0 {
					key := [4]byte(all[2:6])
					payload := append([]byte(nil), all[6:6+size]...)
					wsframe.Mask(payload, key)
					require.Equal(t, []byte{0x82, 0x80 | size}, all[:2])
					require.Equal(t, "hello", string(payload))
					seen[key]++
					all = all[6+size:]
				}
				c.Close()
			}
			assert.Greater(t, len(seen), 2*n-5, "keys of %d frames: chance alone makes two of them alike once in a thousand runs", 2*n)
		})
	}
}

// A plain gateway's peers send binary headers in text messages.
func TestWebsocketTextNeedNotBeUTF8(t *testing.T) {
	for _, tt := range websockets(newCertificate(t)) {
		if tt.secure {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			addr := wsPeer(t, func(ws *websocket.Conn) {
				assert.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("\xff\x00\xc3")))
				readAll(ws)
			})
			c := tt.client(addr)
			l := observe(c)
			require.NoError(t, c.Run())
			defer c.Close()
			assert.Equal(t, received{1, "\xff\x00\xc3"}, await(t, l.packets, "packet"))
		})
	}
}

// What was read at once is handed over before quiet is called, and quiet is called when all of it was.
func TestOnQuiet(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			packets := 0 // owned by who reads, as quiet is called there
			quiet := make(chan int, 1000)
			require.True(t, c.OnQuiet(func() { quiet <- packets }))
			c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { packets++ })
			require.NoError(t, c.Run())
			conn := await(t, b.conns, "connection")
			for range 10 {
				conn.Write([]byte("x"))
			}
			for await(t, quiet, "quiet") < 10 {
			}
			c.Close()
			assertJoined(t)
			assert.Equal(t, 10, packets)
		})
	}
}

// The raised limit holds for what comes in too, and for clients that are run again.
func TestRaiseMaxPacketSize(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr, client.WithMaxPacketSize(10))
			c.RaiseMaxPacketSize(1000)
			c.RaiseMaxPacketSize(500)
			assert.Equal(t, 1000, c.MaxPacketSize())
			l := observe(c)
			for range 2 {
				require.NoError(t, c.Run())
				await(t, b.conns, "connection").Write(make([]byte, 1000))
				assert.Len(t, await(t, l.packets, "packet").data, 1000)
				c.Close()
				assert.Nil(t, await(t, l.closed, "closed event"))
			}
		})
	}
}

// A flood of pings from a server that reads nothing is answered as far as is reasonable, and ends as any write that gets stuck.
func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			conn := <-peers
			answerWith(t, conn, "", nil)
			pings := wsframe.Append(nil, frame.KindPing, make([]byte, 125))
			for {
				if _, err := conn.Write(pings); err != nil {
					return
				}
				<-time.After(time.Millisecond)
			}
		}()
		c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory, client.WithWriteTimeout(4*time.Second))
		l := observe(c)
		start := time.Now()
		assert.ErrorContains(t, c.Run(true), "timeout")
		assert.Equal(t, 4*time.Second, time.Since(start))
		<-l.closed
		<-flooded
	})
}

// A write callback that takes its time holds up nothing but what is behind it: the server's close frame is the end all the same.
func TestWebsocketClosedWhileCallbackRuns(t *testing.T) {
	addr := wsPeer(t, func(ws *websocket.Conn) {
		_, _, err := ws.ReadMessage()
		assert.NoError(t, err)
		assert.NoError(t, ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""), time.Now().Add(patience)))
		readAll(ws)
	})
	c := client.NewWebsocket("ws://" + addr + "/")
	l := observe(c)
	release := make(chan struct{})
	require.NoError(t, c.Run())
	c.Write([]byte("x"), func(error) { <-release })
	awaitTrue(t, func() bool { return !c.IsConnected() }, "end")
	close(release)
	assert.Nil(t, await(t, l.closed, "closed event"))
}

// Nothing is written behind a close frame, a user's own included.
func TestNothingBehindACloseFrame(t *testing.T) {
	for _, tt := range websockets(newCertificate(t)) {
		if tt.secure {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			end := make(chan error, 1)
			addr := wsPeer(t, func(ws *websocket.Conn) {
				_, _, err := ws.ReadMessage()
				end <- err
				_, rest := io.Copy(io.Discard, ws.NetConn())
				assert.NoError(t, rest)
			})
			c := tt.client(addr)
			l := observe(c)
			require.NoError(t, c.Run())
			outcomes := make(chan error, 2)
			c.WriteWS(frame.KindClose, wsframe.ClosePayload(4000, "bye"), func(err error) { outcomes <- err })
			assert.NoError(t, await(t, outcomes, "callback"))
			c.Write([]byte("late"), func(err error) { outcomes <- err })
			if err := await(t, outcomes, "callback"); assert.Error(t, err) {
				assert.ErrorIs(t, err, net.ErrClosed)
			}
			err := await(t, end, "close frame")
			assert.True(t, websocket.IsCloseError(err, 4000), err)
			var bye *websocket.CloseError
			reason, _ := await(t, l.closed, "closed event").(error)
			require.ErrorAs(t, reason, &bye)
			assert.Equal(t, 4000, bye.Code)
		})
	}
}

// A user's close frame is written although the kernel took, at first, only some of what comes before it.
func TestCloseFrameBehindACutPacket(t *testing.T) {
	const packets, size = 200, 4 << 10
	small := client.WithDialFunc(func(dial client.DialFunc) client.DialFunc {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err == nil {
				err = conn.(*net.TCPConn).SetWriteBuffer(size)
			}
			return conn, err
		}
	})
	for _, tt := range websockets(newCertificate(t)) {
		if tt.secure {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			queued, end := make(chan struct{}), make(chan error, 1)
			addr := wsPeer(t, func(ws *websocket.Conn) {
				<-queued
				n := 0
				for ; ; n++ {
					if _, _, err := ws.ReadMessage(); err != nil {
						end <- err
						break
					}
				}
				assert.Equal(t, packets, n)
			})
			c := tt.client(addr, small)
			l := observe(c)
			require.NoError(t, c.Run())
			for range packets {
				c.Write(make([]byte, size))
			}
			outcome := make(chan error, 1)
			c.WriteWS(frame.KindClose, wsframe.ClosePayload(4000, "bye"), func(err error) { outcome <- err })
			close(queued)
			assert.NoError(t, await(t, outcome, "callback"))
			c.Close()
			err := await(t, end, "close frame")
			assert.True(t, websocket.IsCloseError(err, 4000), err)
			await(t, l.closed, "closed event")
		})
	}
}

// What is queued when the server's close frame comes gets an error, so that another link can take it: the server reads none of it.
func TestQueuedWhenServerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		got := make(chan []byte, 1)
		go func() {
			conn := <-peers
			r := answerWith(t, conn, "", nil)
			_, err := conn.Write(wsframe.Append(nil, frame.KindPing, []byte("?")))
			assert.NoError(t, err)
			_, err = conn.Write(wsframe.Append(nil, frame.KindClose, wsframe.ClosePayload(1001, "")))
			assert.NoError(t, err)
			<-time.After(500 * time.Millisecond) // the first packet is being written meanwhile, and others wait
			all, err := io.ReadAll(r)
			assert.NoError(t, err)
			got <- all
		}()
		c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory)
		l := observe(c)
		outcomes := make(chan error, 3)
		c.RegConnectionOpenedEvent(func(c *client.Client) {
			for range 3 {
				c.Write([]byte("hello"), func(err error) { outcomes <- err })
				synctest.Wait()
			}
		})
		require.NoError(t, c.Run())
		assert.Nil(t, <-l.closed)
		var kinds []int
		parser := wsframe.Parser{Masked: true}
		for all := <-got; len(all) > 0; {
			m, size, err := parser.Next(all)
			if err != nil {
				var bye *wsframe.CloseError
				require.ErrorAs(t, err, &bye)
				kinds = append(kinds, frame.KindClose)
				break
			}
			kinds = append(kinds, m.Kind)
			all = all[size:]
		}
		written := 0
		for range 3 {
			if err := <-outcomes; err == nil {
				written++
			} else {
				assert.ErrorIs(t, err, net.ErrClosed)
			}
		}
		assert.Less(t, written, 3)
		data := 0
		for _, kind := range kinds {
			if kind == frame.KindBinary {
				data++
			}
		}
		assert.Equal(t, written, data, "kinds %v", kinds)
		assert.Contains(t, kinds, frame.KindPong)
		assert.Equal(t, frame.KindClose, kinds[len(kinds)-1], "kinds %v", kinds)
	})
}
