package server_test

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

const udp = conformance.UDP

// player dials a UDP server, and is closed at the test's end.
func player(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func say(t testing.TB, conn net.Conn, data string) {
	t.Helper()
	_, err := conn.Write([]byte(data))
	require.NoError(t, err)
}

func hear(t testing.TB, conn net.Conn) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

func TestUDPSession(t *testing.T) {
	h := serve(t, udp).echo()
	conn := player(t, h.addr)
	for _, data := range []string{"one", "", "three"} {
		say(t, conn, data)
		assert.Equal(t, data, h.next(t).data)
		assert.Equal(t, data, hear(t, conn))
	}
	opened := await(t, h.opened, "opened event")
	assert.Equal(t, conn.LocalAddr().String(), opened.GetID())
	assert.Equal(t, "127.0.0.1", opened.GetIP())
	assert.Equal(t, conn.LocalAddr(), opened.RemoteAddr())
	assert.Zero(t, opened.GetWST())
	assert.Empty(t, h.opened, "one session")
	assert.Equal(t, 1, h.GetOnlineCount())
}

func TestUDPFamilies(t *testing.T) {
	for name, c := range map[string]struct{ network, listen, dial, ip string }{
		"IPv4":      {"udp4", "127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		"IPv6":      {"udp6", "[::1]:0", "::1", "::1"},
		"v4-mapped": {"udp", "[::]:0", "127.0.0.1", "127.0.0.1"},
		"both":      {"udp", "[::]:0", "::1", "::1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(c.network).echo()
			_, port, err := net.SplitHostPort(gwtestServe(t, h, c.listen))
			require.NoError(t, err)
			conn := player(t, net.JoinHostPort(c.dial, port))
			say(t, conn, "hello")
			assert.Equal(t, "hello", hear(t, conn))
			opened := await(t, h.opened, "opened event")
			assert.Equal(t, c.ip, opened.GetIP())
			assert.Equal(t, conn.LocalAddr().String(), opened.GetID())
		})
	}
	assert.ErrorIs(t, server.New(server.NetworkUdp4).Run("[::1]:0"), server.ErrBadAddress)
	assert.ErrorIs(t, server.New(server.NetworkUdp6).Run("127.0.0.1:0"), server.ErrBadAddress)
	assert.ErrorIs(t, server.New(server.NetworkUdp).Run("nowhere"), server.ErrBadAddress)
}

func TestUDPRefusesWhatItCannot(t *testing.T) {
	h := serve(t, udp)
	assert.ErrorIs(t, server.New(udp, server.WithLogger(quiet)).Run(h.addr), syscall.EADDRINUSE, "a port is one server's")

	err := server.New(udp, server.WithTLS("cert", "key")).Run("127.0.0.1:0")
	assert.ErrorIs(t, err, server.ErrBadOption)
	assert.ErrorContains(t, err, "TLS over udp")
	err = server.New(udp, server.WithEngine(server.EngineLoops)).Run("127.0.0.1:0")
	assert.ErrorIs(t, err, server.ErrBadOption)
	if _, loops := engines()["loops"]; loops {
		assert.ErrorContains(t, err, "UDP")
	}
	srv := server.New(udp)
	srv.SetLayer(noLayer{})
	assert.ErrorIs(t, srv.Run("127.0.0.1:0"), server.ErrBadOption)
}

// noLayer is one that nothing is asked of.
type noLayer struct{ server.Layer }

func (noLayer) Subprotocol() string { return "" }

func TestUDPPacketTooLarge(t *testing.T) {
	h := serve(t, udp, server.WithMaxPacketSize(100))
	conn := player(t, h.addr)
	say(t, conn, "first")
	session := await(t, h.opened, "opened event")
	say(t, conn, strings.Repeat("x", 101))
	say(t, conn, strings.Repeat("y", 100))
	assert.Equal(t, "first", h.next(t).data)
	assert.Len(t, h.next(t).data, 100, "a forged datagram ends nobody's session")
	assert.EqualValues(t, 1, h.Stats().DatagramsTooLarge)

	err := await(t, write(session, make([]byte, 65508)), "callback")
	assert.ErrorIs(t, err, server.ErrPacketTooLarge)
	assert.ErrorContains(t, err, "65508")
	assert.ErrorContains(t, err, "65507")
	assert.NoError(t, await(t, write(session, make([]byte, 65507)), "callback"))
	assert.Len(t, hear(t, conn), 65507)
}

func TestUDPGoroutines(t *testing.T) {
	const players = 200
	h := serve(t, udp).echo()
	all := make([]net.Conn, players)
	talk := func(conns []net.Conn) {
		for i, conn := range conns {
			say(t, conn, strconv.Itoa(i))
			require.Equal(t, strconv.Itoa(i), hear(t, conn))
		}
	}
	for i := range all {
		all[i] = player(t, h.addr)
	}
	talk(all[:1])
	before := runtime.NumGoroutine()
	talk(all)
	assert.Less(t, runtime.NumGoroutine(), before+players/2, "none for each client")
	assert.Equal(t, players, h.GetOnlineCount())
}

// TestUDPManyAtOnce has players that write while others are closed, by the server and by their own silence.
func TestUDPManyAtOnce(t *testing.T) {
	for name, opts := range map[string][]server.Option{
		"in place": nil, "async": {server.WithAsyncHandlers()}, "serial": {server.WithSerialHandlers()},
	} {
		t.Run(name, func(t *testing.T) {
			const players, rounds = 24, 50
			h := newHost(udp, opts...)
			var calls, writes atomic.Int64
			h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
				writes.Add(1)
				conn.Write(packet, func(error) { calls.Add(1) })
				if string(packet) == "bye" {
					conn.Close()
				}
			}, 1)
			h.start(t)
			var all sync.WaitGroup
			for range players {
				conn := player(t, h.addr)
				all.Go(func() {
					for i := range rounds {
						word := fmt.Sprint("round ", i)
						if i == rounds-1 {
							word = "bye"
						}
						say(t, conn, word)
						if got := hear(t, conn); got != word {
							t.Errorf("%q came back for %q", got, word)
						}
					}
				})
			}
			all.Wait()
			for range players {
				assert.Nil(t, h.end(t))
			}
			assert.EqualValues(t, players*rounds, writes.Load())
			require.Eventually(t, func() bool { return calls.Load() == writes.Load() }, patience, tick)
			require.Eventually(t, func() bool { return h.GetOnlineCount() == 0 }, patience, tick)
		})
	}
}

func TestUDPHandlerPanics(t *testing.T) {
	h := serve(t, udp).echo()
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
		if string(packet) == "panic" {
			panic("for a test")
		}
	})
	bad, good := player(t, h.addr), player(t, h.addr)
	say(t, good, "hello")
	assert.Equal(t, "hello", hear(t, good))
	say(t, bad, "panic")
	assert.ErrorIs(t, h.endError(t), server.ErrHandlerPanic)
	say(t, good, "again")
	assert.Equal(t, "again", hear(t, good))
	require.Eventually(t, func() bool { return h.GetOnlineCount() == 1 }, patience, tick)
}

// TestUDPErrors has a network that refuses some datagrams, and tells of others that came to nothing.
func TestUDPErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHost(udp), newPackets()
		p.refuse = func(data []byte, _ net.Addr) error {
			if string(data) == "unlucky" {
				return syscall.EPERM
			}
			return nil
		}
		h.serveOn(t, p)
		p.send("192.0.2.1:1000", "hello")
		conn := await(t, h.opened, "opened event")
		for range 3 {
			p.in <- inbound{err: &net.OpError{Op: "read", Err: syscall.ECONNREFUSED}}
		}
		err := await(t, write(conn, []byte("unlucky")), "callback")
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.NotErrorIs(t, err, net.ErrClosed, "the session goes on")
		assert.NoError(t, await(t, write(conn, []byte("lucky")), "callback"))
		assert.Equal(t, "lucky", (<-p.out).data)
		assert.EqualValues(t, 1, h.Stats().WritesFailed)
		assert.EqualValues(t, 1, h.Stats().PacketsWritten)
		p.send("192.0.2.1:1000", "goes on")
		assert.Equal(t, "hello", h.next(t).data)
		assert.Equal(t, "goes on", h.next(t).data)
	})
}

func TestUDPSocketFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHost(udp), newPackets()
		ended := make(chan error, 1)
		go func() { ended <- h.ServePacket(p) }()
		p.send("192.0.2.1:1000", "hello")
		broken := errors.New("broken")
		p.in <- inbound{err: broken}
		assert.ErrorIs(t, <-ended, broken)
		assert.ErrorIs(t, h.endError(t), broken)
		synctest.Wait()
		assert.Zero(t, h.GetOnlineCount())
	})
}

// TestUDPBlockedWriter has a network that takes nothing any more: that costs those to whom there is too much to be said.
func TestUDPBlockedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHost(udp, server.WithConnWriteBufferSize(10)), newPackets()
		release := make(chan struct{})
		p.refuse = func([]byte, net.Addr) error { <-release; return nil }
		h.serveOn(t, p)
		p.send("192.0.2.1:1", "hello")
		p.send("192.0.2.2:2", "hello")
		greedy, modest := <-h.opened, <-h.opened
		var results [20]<-chan error
		for i := range results {
			results[i] = write(greedy, []byte("x")) // which doesn't block
		}
		fine := write(modest, []byte("x"))
		assert.True(t, greedy.IsClosed())
		assert.False(t, modest.IsClosed())
		close(release)
		assert.NoError(t, <-fine)
		assert.ErrorIs(t, h.endError(t), server.ErrSlowConsumer)
		written := 0
		for _, result := range results {
			if err := <-result; err == nil {
				written++
			} else {
				assert.ErrorIs(t, err, server.ErrSlowConsumer)
			}
			assert.Empty(t, result, "one call")
		}
		assert.Less(t, written, len(results))
	})
}

// TestUDPShutdownOfBlocked has a network that takes nothing, whose socket is closed at last.
func TestUDPShutdownOfBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHost(udp), newPackets()
		p.refuse = func([]byte, net.Addr) error { <-p.closed; return net.ErrClosed }
		h.serveOn(t, p)
		p.send("192.0.2.1:1", "hello")
		result := write(<-h.opened, []byte("x"))
		begun := time.Now()
		h.Shutdown()
		assert.ErrorIs(t, <-result, server.ErrConnClosed)
		assert.Equal(t, server.DefaultWriteTimeout, time.Since(begun))
		assert.Equal(t, server.ErrGoingAway, h.endError(t))
	})
}

func TestUDPShutdownFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := newHost(udp), newPackets()
		ended := make(chan error, 1)
		go func() { ended <- h.ServePacket(p) }()
		const sessions, each = 50, 20
		var results []<-chan error
		for i := range sessions {
			p.sendFrom(&net.UDPAddr{IP: net.IPv4(192, 0, 2, byte(i)), Port: 1}, "hello")
			conn := <-h.opened
			for range each {
				results = append(results, write(conn, []byte("x")))
			}
		}
		h.Shutdown()
		assert.NoError(t, <-ended)
		for _, result := range results {
			require.NoError(t, <-result)
		}
		assert.Len(t, p.out, sessions*each)
		for range sessions {
			require.Equal(t, server.ErrGoingAway, h.end(t))
		}
	})
}

// TestUDPNames has a network whose addresses are names.
func TestUDPNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := servePackets(t)
		h.echo()
		ann, bob := &net.UnixAddr{Net: "memory", Name: "ann"}, &net.UnixAddr{Net: "memory", Name: "bob"}
		for _, from := range []net.Addr{ann, bob, ann} {
			p.sendFrom(from, from.String())
			d := <-p.out
			assert.Equal(t, from, d.addr)
			assert.Equal(t, from.String(), d.data)
		}
		assert.Equal(t, "ann", (<-h.opened).GetID())
		assert.Equal(t, "bob", (<-h.opened).GetID())
		assert.Empty(t, h.opened)
	})
}

func TestUDPServeBeside(t *testing.T) {
	h := newHost(udp).echo()
	h.begin(t, t.Context(), "127.0.0.1:0")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- h.ServePacket(pc) }()
	first, second := player(t, h.Addr().String()), player(t, pc.LocalAddr().String())
	for _, conn := range []net.Conn{first, second} {
		say(t, conn, "hello")
		assert.Equal(t, "hello", hear(t, conn))
	}
	assert.Equal(t, 2, h.GetOnlineCount())
	pc.Close()
	assert.NoError(t, await(t, ended, "end of ServePacket, by its socket's"))
	assert.Equal(t, second.LocalAddr().String(), await(t, h.closed, "closed event").id)
	say(t, first, "still there")
	assert.Equal(t, "still there", hear(t, first))
}

func TestUDPAdmission(t *testing.T) {
	for name, opts := range map[string][]server.Option{"in place": nil, "async": {server.WithAsyncHandlers()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				decide := make(chan error)
				h, p := servePackets(t, append(opts, server.WithAdmission(func(conn *server.Conn, first []byte) error {
					conn.Write(append([]byte("hello "), first...))
					return <-decide
				}, 0))...)
				const ann, bob = "192.0.2.1:1", "192.0.2.2:2"
				p.send(ann, "ann")
				assert.Equal(t, "hello ann", (<-p.out).data)
				p.send(ann, "while it is decided")
				synctest.Wait()
				assert.Zero(t, h.GetOnlineCount())
				decide <- nil
				assert.Equal(t, ann, (<-h.opened).GetID())
				assert.Equal(t, "while it is decided", h.next(t).data)
				p.send(ann, "afterwards")
				assert.Equal(t, "afterwards", h.next(t).data)

				p.send(bob, "bob")
				assert.Equal(t, "hello bob", (<-p.out).data)
				decide <- errors.New("a stranger")
				synctest.Wait()
				assert.Equal(t, 1, h.GetOnlineCount())
				assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedAdmission])
				p.send(bob, "goes on")
				synctest.Wait()
				assert.Empty(t, h.opened)
			})
		})
	}
}

// TestUDPForgedFlood has somebody send under a player's address: what is too much is lost, and the player stays.
func TestUDPForgedFlood(t *testing.T) {
	for name, opt := range map[string]server.Option{
		"packets": server.WithPacketRate(5, 5), "mailbox": server.WithAsyncHandlers(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, p := servePackets(t, opt)
				release := make(chan struct{})
				h.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) {
					if name == "mailbox" {
						<-release
					}
				}, 1)
				const each, sent = 1000, server.MailboxBytes/1000 + 10
				for range sent {
					p.send("192.0.2.1:1", strings.Repeat("x", each))
				}
				synctest.Wait()
				close(release)
				time.Sleep(time.Second)
				assert.Positive(t, h.Stats().PacketsDiscarded)
				assert.Empty(t, h.closed)
				handled := len(h.packets)
				p.send("192.0.2.1:1", "still there")
				synctest.Wait()
				assert.Len(t, h.packets, handled+1)
			})
		})
	}
}
