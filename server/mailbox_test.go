package server_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// A handler that blocks delays its own connection only, whose packets wait in order.
func TestAsyncHandlers(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := newHost(network, server.WithAsyncHandlers())
			release := make(chan struct{})
			h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
				if string(packet) == "block" {
					<-release
				}
			}, -1)
			h.start(t)
			blocked, _ := h.dial(t)
			other, _ := h.dial(t)
			const n = 1000
			blocked.Write(binary, []byte("block"))
			for i := range n {
				blocked.Write(binary, fmt.Append(nil, i))
			}
			blocked.Farewell()
			for range 10 {
				other.Write(binary, []byte("other"))
				assert.Equal(t, "other", h.next(t).data)
			}
			close(release)
			assert.Equal(t, "block", h.next(t).data)
			for i := range n {
				require.Equal(t, fmt.Sprint(i), h.next(t).data)
			}
			assert.Nil(t, h.end(t), "closed after the last packet, though the peer left long before")
			assert.Empty(t, h.packets)
		})
	}
}

// One that sends more than its mailbox holds is closed. The mailbox counts bytes, and a little for each packet.
func TestMailboxFull(t *testing.T) {
	for name, size := range map[string]int{"large packets": 32 << 10, "empty packets": 0} {
		for mode, opt := range map[string]server.Option{"async": server.WithAsyncHandlers(), "serial": server.WithSerialHandlers()} {
			t.Run(name+" "+mode, func(t *testing.T) {
				h := newHost(ws, opt)
				begun, release := make(chan struct{}, 1), make(chan struct{})
				h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
					if conn.GetData("name") == "flood" {
						begun <- struct{}{}
						<-release
					}
				}, -1)
				h.start(t)
				p := dialNamed(t, h, "flood")
				n := server.MailboxBytes/(size+64) + 8
				p.Write(binary, nil)
				await(t, begun, "first packet")
				for range n {
					p.Write(binary, make([]byte, size))
				}
				p.ExpectFarewell(1008)
				p.Farewell()
				close(release)
				assert.Equal(t, server.ErrMailboxFull, h.end(t))
				stats := h.Stats()
				assert.EqualValues(t, 1, stats.MailboxesFull)
				assert.EqualValues(t, 1, len(h.packets), "the others were never handled")
				assert.EqualValues(t, n+1, stats.PacketsReceived)
				assert.EqualValues(t, n, stats.PacketsDiscarded)

				good := dialNamed(t, h, "good")
				good.Write(binary, []byte("hello"))
				h.next(t)
				assert.Equal(t, "hello", h.next(t).data)
			})
		}
	}
}

// Room in the mailbox comes back as packets are handled.
func TestMailboxRoom(t *testing.T) {
	h := serve(t, tcp, server.WithAsyncHandlers()).echo()
	p, _ := h.dial(t)
	packet := make([]byte, 60<<10)
	for range 20 { // many times what fits at once
		p.Write(binary, packet)
		p.Expect(binary, packet)
	}
	assert.Zero(t, h.Stats().MailboxesFull)
}

// Serially, no two handlers ever run at once, whatever their connections and events.
func TestSerialHandlers(t *testing.T) {
	const peers, packets = 8, 50
	h := newHost(tcp, server.WithSerialHandlers())
	inside, logic := atomic.Int32{}, 0 // logic is the game's, without a lock
	enter := func() {
		assert.EqualValues(t, 1, inside.Add(1), "handlers at once")
		logic++
		inside.Add(-1)
	}
	h.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { enter() })
	h.RegConnectionOpenedAfterEvent(func(*server.Server, *server.Conn) { enter() })
	h.RegConnectionPacketPreprocessEvent(func(*server.Server, *server.Conn, []byte, func(), func([]byte)) { enter() })
	h.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) { enter() })
	h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { enter() }, -1)
	h.start(t)
	for range peers {
		p, _ := h.dial(t)
		go func() {
			for i := range packets {
				p.Write(binary, fmt.Append(nil, i))
			}
			p.Farewell()
		}()
	}
	for range peers {
		assert.Nil(t, h.end(t))
	}
	assert.Len(t, h.packets, peers*packets)
	done := make(chan int)
	p, _ := h.dial(t)
	h.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) { done <- logic })
	p.Write(binary, nil)
	assert.Equal(t, peers*(3+2*packets)+2+2, await(t, done, "packet"))
}

// The same server, run again after a fatal error, still has its one goroutine for handlers.
func TestSerialHandlersRunAgain(t *testing.T) {
	f := newFakeTransport()
	h := newHost(tcp, server.WithSerialHandlers(), server.WithTransport(f))
	ended := make(chan error, 1)
	for range 2 {
		go func() { ended <- h.Run("") }()
		c := newFakeConn(nil)
		await(t, f.acceptor, "Serve").Accept(c)
		await(t, h.opened, "opened event")
		c.in <- []byte("hello")
		assert.Equal(t, "hello", h.next(t).data)
		f.fatal <- fmt.Errorf("broken")
		assert.EqualError(t, await(t, ended, "end of Run"), "broken")
		h.end(t)
	}
}

// A connection that outlives the shutdown timeout still has its closed event, and leaves nothing behind.
func TestSerialHandlersOutliveShutdown(t *testing.T) {
	h := newHost(tcp, server.WithSerialHandlers(), server.WithShutdownTimeout(100*time.Millisecond))
	h.start0(t)
	_, conn := h.dial(t)
	release, in := make(chan struct{}), make(chan struct{})
	conn.Write([]byte("x"), func(error) { close(in); <-release })
	<-in
	h.Shutdown()
	assert.ErrorIs(t, await(t, h.ended, "end of Run"), server.ErrShutdownTimeout)
	close(release)
	await(t, h.closed, "closed event")
	require.Eventually(t, func() bool { return h.GetOnlineCount() == 0 }, patience, time.Millisecond)
}
