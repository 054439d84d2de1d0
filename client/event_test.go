package client_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// logged returns a logger and what it logs, a line each.
func logged() (*slog.Logger, <-chan string) {
	lines := make(chan string, 1<<10)
	return slog.New(slog.NewTextHandler(lineWriter(lines), nil)), lines
}

type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) { w <- string(p); return len(p), nil }

// The server speaks first, and the opened handler takes its time.
func TestOpenedPrecedesFirstPacket(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			const n = 100
			sent := make(chan error, n)
			b.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
				for i := range n {
					conn.Write(numbered(i), func(err error) { sent <- err })
				}
				conn.Close()
			})
			c := tt.client(b.addr)
			l := observe(c)
			c.RegConnectionOpenedEvent(func(c *client.Client) {
				assert.True(t, c.IsConnected())
				for range n {
					assert.NoError(t, await(t, sent, "callback of the server"))
				}
				l.add("opened")
			}, 1)
			require.NoError(t, c.Run(true))
			events := l.all()
			require.Len(t, events, n+3)
			assert.Equal(t, []string{"opened", "opened", "packet"}, events[:3])
			assert.Equal(t, "closed", events[n+2])
			for i := range n {
				require.Equal(t, string(numbered(i)), await(t, l.packets, "packet").data)
			}
			assert.Nil(t, await(t, l.closed, "closed event"))
			assert.Empty(t, l.closed)
		})
	}
}

func TestServerEnds(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			l := observe(c)
			require.NoError(t, c.Run())
			await(t, b.conns, "connection").Close()
			got := await(t, l.closed, "closed event")
			assert.True(t, got == nil, "an untyped nil, not %#v", got)
			assert.False(t, c.IsConnected())
			assert.Equal(t, []string{"opened", "closed"}, l.all())
		})
	}
}

func TestServerBreaks(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends func(conn *net.TCPConn)
		want error // nil: any
	}{
		{"reset", func(conn *net.TCPConn) { _ = conn.SetLinger(0) }, nil},
		{"inside a packet", func(conn *net.TCPConn) { _, _ = conn.Write([]byte{0, 0, 0, 9, 'x'}) }, io.ErrUnexpectedEOF},
		{"too large a packet", func(conn *net.TCPConn) { _, _ = conn.Write([]byte{255, 0, 0, 0}) }, client.ErrPacketTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun := make(chan struct{})
			addr := listen(t, func(conn *net.TCPConn) { <-begun; tt.ends(conn) })
			c := client.NewTCP(addr)
			l := observe(c)
			c.RegConnectionOpenedEvent(func(*client.Client) { close(begun) })
			err := c.Run(true)
			require.Error(t, err)
			assert.NotErrorIs(t, err, net.ErrClosed)
			if tt.want != nil {
				assert.ErrorIs(t, err, tt.want)
			}
			assert.Equal(t, err, await(t, l.closed, "closed event"))
			assert.Equal(t, []string{"opened", "closed"}, l.all())
		})
	}
}

func TestHandlerPanics(t *testing.T) {
	b := serve(t, server.NetworkTcp).echo()
	for _, event := range []string{"ConnectionOpened", "ConnectionReceivePacket", "ConnectionClosed"} {
		t.Run(event, func(t *testing.T) {
			logger, lines := logged()
			c := client.NewTCP(b.addr, client.WithLogger(logger))
			switch event {
			case "ConnectionOpened":
				c.RegConnectionOpenedEvent(func(*client.Client) { panic("oops") })
			case "ConnectionReceivePacket":
				c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { panic("oops") })
			case "ConnectionClosed":
				c.RegConnectionClosedEvent(func(*client.Client, any) { panic("oops") })
			}
			l := observe(c)
			require.NoError(t, c.Run())
			c.Write([]byte("x"))
			if event == "ConnectionClosed" {
				c.Close()
				assert.Nil(t, await(t, l.closed, "closed event of the next handler"))
			} else {
				err, _ := await(t, l.closed, "closed event").(error)
				assert.ErrorContains(t, err, "client: "+event+" handler panicked: oops")
			}
			line := await(t, lines, "log")
			for _, want := range []string{"handler panicked", "event=" + event, "panic=oops", "server=" + b.addr, "event_test.go"} {
				assert.Contains(t, line, want)
			}
			assert.False(t, c.IsConnected())
			assert.Empty(t, lines)
		})
	}
}

func TestHandlerPriorities(t *testing.T) {
	b := serve(t, server.NetworkTcp).echo()
	c := client.NewTCP(b.addr)
	l := observe(c)
	for _, tt := range []struct {
		name     string
		priority []int
	}{{"last", []int{9}}, {"default", nil}, {"first", []int{-1}}} {
		c.RegConnectionOpenedEvent(func(*client.Client) { l.add("opened " + tt.name) }, tt.priority...)
		c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { l.add("packet " + tt.name) }, tt.priority...)
		c.RegConnectionClosedEvent(func(*client.Client, any) { l.add("closed " + tt.name) }, tt.priority...)
	}
	done := make(chan struct{})
	c.RegConnectionReceivePacketEvent(func(c *client.Client, _ int, _ []byte) { c.Close() }, 10)
	c.RegConnectionClosedEvent(func(*client.Client, any) { close(done) }, 10)
	require.NoError(t, c.Run())
	c.Write([]byte("x"))
	await(t, done, "closed event")
	assert.Equal(t, []string{
		"opened first", "opened", "opened default", "opened last",
		"packet first", "packet", "packet default", "packet last",
		"closed first", "closed", "closed default", "closed last",
	}, l.all())
}

// After Close nothing more is handed to handlers, whatever still arrives.
func TestNoPacketAfterClose(t *testing.T) {
	core := newFakeCore()
	c := client.NewClient(core)
	var packets atomic.Int32
	closed := make(chan any, 1)
	reason := errors.New("enough")
	c.RegConnectionReceivePacketEvent(func(c *client.Client, _ int, _ []byte) { packets.Add(1); c.Close(reason) })
	c.RegConnectionClosedEvent(func(_ *client.Client, err any) { closed <- err })
	for range 100 {
		core.reads <- received{0, "x"}
	}
	require.NoError(t, c.Run())
	assert.Equal(t, reason, await(t, closed, "closed event"))
	assert.EqualValues(t, 1, packets.Load())
}

// A handler may keep its packet.
func TestPacketBelongsToHandler(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network).echo()
			c := tt.client(b.addr)
			const n = 100
			kept := make(chan []byte, n)
			c.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { kept <- packet })
			require.NoError(t, c.Run())
			defer c.Close()
			for i := range n {
				c.Write(numbered(i))
			}
			var all [][]byte
			for range n {
				packet := await(t, kept, "packet")
				all = append(all, packet)
				_ = append(packet, "spill"...)
			}
			for i, packet := range all {
				require.Equal(t, string(numbered(i)), string(packet))
			}
		})
	}
}
