package server_test

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

func TestUDPIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := servePackets(t)
		const ann, bob = "192.0.2.1:1", "192.0.2.2:2"
		p.send(ann, "hello")
		p.send(bob, "hello")
		conn := <-h.opened
		for range 4 {
			time.Sleep(25 * time.Second)
			p.send(bob, "still there")
			conn.Write([]byte("what is said to a client is no sign of life"))
			synctest.Wait()
			if d := conn.GetOnlineTime(); d <= server.DefaultUDPIdleTimeout {
				require.False(t, conn.IsClosed(), "after %v", d)
			} else if d > server.DefaultUDPIdleTimeout*9/8+time.Second {
				require.True(t, conn.IsClosed(), "after %v", d)
			}
		}
		assert.Equal(t, ending{ann, server.ErrIdleTimeout}, <-h.closed)
		assert.Empty(t, h.closed, "who speaks stays")

		<-h.opened // bob
		p.send(ann, "back again")
		assert.Equal(t, ann, (<-h.opened).GetID(), "a new session, at once")
	})
}

func TestUDPIdleTimeoutOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, idle = 1000, 8 * time.Second
		h, p := servePackets(t, server.WithUDPIdleTimeout(idle))
		for i := range sessions {
			p.send(fmt.Sprintf("192.0.%d.1:%d", i%8, i+1), "hello")
		}
		time.Sleep(idle)
		assert.Equal(t, sessions, h.GetOnlineCount())
		time.Sleep(idle/8 + time.Second)
		assert.Zero(t, h.GetOnlineCount())
		for range sessions {
			require.Equal(t, server.ErrIdleTimeout, h.end(t))
		}
	})
}

// TestUDPAfterClose has a client that goes on, since nothing tells it that it was closed.
func TestUDPAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := servePackets(t)
		const ann = "192.0.2.1:1"
		p.send(ann, "hello")
		conn := <-h.opened
		assert.Equal(t, "hello", h.next(t).data)
		written := write(conn, []byte("last words"))
		conn.Close()
		assert.NoError(t, <-written)
		assert.Equal(t, "last words", (<-p.out).data)
		assert.Nil(t, h.end(t))
		p.send(ann, "what was under way")
		synctest.Wait()
		assert.Empty(t, h.opened)
		assert.Empty(t, h.packets)
		assert.EqualValues(t, 1, h.Stats().PacketsDiscarded)

		time.Sleep(2 * time.Second)
		p.send(ann, "another one, maybe")
		assert.Equal(t, ann, (<-h.opened).GetID())
		assert.Empty(t, h.closed)
	})
}

func TestUDPLimits(t *testing.T) {
	type flood struct {
		from   string // with %d for a number
		n, let int
	}
	for name, c := range map[string]struct {
		limits server.UDPLimits
		floods []flood
		reason server.Refusal
	}{
		"in all":     {server.UDPLimits{Sessions: 5, PerPrefix: -1, Rate: -1}, []flood{{"198.51.%d.1:1", 9, 5}}, server.RefusedUDPSessions},
		"per /24":    {server.UDPLimits{PerPrefix: 3}, []flood{{"192.0.2.%d:1", 9, 3}, {"192.0.3.%d:1", 3, 3}}, server.RefusedUDPPrefix},
		"per /64":    {server.UDPLimits{PerPrefix: 3}, []flood{{"[2001:db8::%d]:1", 9, 3}, {"[2001:db8:0:1::%d]:1", 3, 3}}, server.RefusedUDPPrefix},
		"ports":      {server.UDPLimits{PerPrefix: 3}, []flood{{"192.0.2.1:1%d", 9, 3}}, server.RefusedUDPPrefix},
		"v4-mapped":  {server.UDPLimits{PerPrefix: 3}, []flood{{"[::ffff:192.0.2.%d]:1", 2, 2}, {"192.0.2.9%d:1", 5, 1}}, server.RefusedUDPPrefix},
		"per second": {server.UDPLimits{Rate: 1, Burst: 4}, []flood{{"192.0.2.%d:1", 9, 4}, {"192.0.3.%d:1", 4, 4}}, server.RefusedUDPRate},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, p := servePackets(t, server.WithUDPLimits(c.limits))
				refused := 0
				for _, f := range c.floods {
					before := h.GetOnlineCount()
					for i := range f.n {
						p.send(fmt.Sprintf(f.from, i+1), "hello")
					}
					synctest.Wait()
					assert.Equal(t, f.let, h.GetOnlineCount()-before, f.from)
					refused += f.n - f.let
				}
				assert.Equal(t, map[server.Refusal]uint64{c.reason: uint64(refused)}, h.Stats().Refusals)
			})
		})
	}
}

func TestUDPLimitsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := servePackets(t, server.WithUDPLimits(server.UDPLimits{Sessions: 2, PerPrefix: 1, Rate: 1, Burst: 1}))
		for i := range 20 { // one at a time, each of an address of its own
			p.send(fmt.Sprintf("192.0.2.%d:1", i+1), "hello")
			(<-h.opened).Close()
			assert.Nil(t, h.end(t))
			time.Sleep(3 * time.Second)
		}
		assert.Empty(t, h.Stats().Refusals)
	})
}

func TestUDPLimitsLeaveLoopbackAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, p := servePackets(t, server.WithUDPLimits(server.UDPLimits{PerPrefix: 1, Rate: 1, Burst: 1}))
		for i := range 50 {
			p.send(fmt.Sprintf("127.0.0.1:%d", i+1), "hello")
			p.send(fmt.Sprintf("[::1]:%d", i+1), "hello")
		}
		synctest.Wait()
		assert.Equal(t, 100, h.GetOnlineCount())
	})
}

// TestUDPFlood sends datagrams from more forged addresses than there may be sessions.
func TestUDPFlood(t *testing.T) {
	const sources, allowed, perSession = 100_000, 20_000, 2 << 10
	h := server.New(udp, server.WithLogger(quiet), server.WithUDPLimits(server.UDPLimits{Sessions: allowed}))
	p := newPackets()
	ended := make(chan error, 1)
	go func() { ended <- h.ServePacket(p) }()
	before := heapInUse()
	for i := range sources {
		p.sendFrom(&net.UDPAddr{IP: net.IPv4(byte(1+i>>16), byte(i>>8), byte(i), byte(i>>3)), Port: 1 + i%60_000}, "x")
	}
	require.Eventually(t, func() bool { return h.Stats().Opened+h.Stats().ConnectionsRefused == sources }, patience, tick)
	after := heapInUse()
	assert.Equal(t, allowed, h.GetOnlineCount())
	assert.Equal(t, map[server.Refusal]uint64{server.RefusedUDPSessions: sources - allowed}, h.Stats().Refusals)
	t.Logf("%d bytes a session", (after-before)/allowed)
	assert.Less(t, after-before, int64(allowed*perSession))
	h.Shutdown()
	assert.NoError(t, <-ended)
	assert.Zero(t, h.GetOnlineCount())
}

// heapInUse returns the bytes that are in use.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
