package gateway_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// joinFrozen connects a client from 203.0.113.7:4711 that stops reading at its first packet.
func (w *world) joinFrozen() (frozen *client.Client, thaw func()) {
	frozen = w.net.ClientFrom("gateway", "203.0.113.7:4711")
	free := make(chan struct{})
	frozen.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { <-free })
	require.NoError(w.t, frozen.Run())
	synctest.Wait()
	return frozen, sync.OnceFunc(func() { close(free) })
}

// congest writes to a client that doesn't read until its conn at the gateway says that its queue fills up.
func congest(t *testing.T, conn *server.Conn) {
	for !conn.Congested() {
		conn.Write(make([]byte, 16<<10))
		synctest.Wait()
		require.False(t, conn.IsClosed())
	}
}

// onlyConn returns the gateway's one connection.
func (w *world) onlyConn() *server.Conn {
	synctest.Wait()
	all := w.Conns()
	require.Len(w.t, all, 1)
	return all[0]
}

// keepConn returns the conn that a backend opened last.
func (h *memHost) keepConn() *atomic.Pointer[server.Conn] {
	last := &atomic.Pointer[server.Conn]{}
	h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { last.Store(conn) })
	return last
}

// A backend hears when a player's queue at the gateway fills up, and when it has room again; at most once in 100 ms.
func TestFlow(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		last := h.keepConn()
		type change struct {
			congested bool
			at        time.Time
		}
		changes := make(chan change, 100)
		h.srv.RegConnectionCongestedEvent(func(_ *server.Server, conn *server.Conn, congested bool) {
			assert.Equal(t, congested, conn.Congested())
			changes <- change{congested, time.Now()}
		})
		time.Sleep(3 * time.Second)
		frozen, thaw := w.joinFrozen()
		frozen.Write([]byte("hello"))
		synctest.Wait()
		congest(t, last.Load())
		on := <-changes
		assert.True(t, on.congested)
		thaw()
		synctest.Wait()
		assert.False(t, w.onlyConn().Congested())
		assert.True(t, last.Load().Congested(), "it has been told just now")
		off := <-changes
		assert.False(t, off.congested)
		assert.False(t, last.Load().Congested())
		assert.Equal(t, 100*time.Millisecond, off.at.Sub(on.at))
		time.Sleep(time.Minute)
		assert.Empty(t, changes)
		frozen.Close()
		stop()
	})
}

// A backend that takes a session up again whose queue is filling up, or opens it anew, is told with its OPEN. A client that takes
// nothing for 5 s is closed, so all of it is over before.
func TestFlowIsSaidWithOpen(t *testing.T) {
	for name, test := range map[string]struct {
		before bool // the queue has filled up before the links are lost
		outage time.Duration
		opened int32
	}{
		"in the grace time, filled up before": {true, 500 * time.Millisecond, 1},
		"in the grace time, filled up in it":  {false, 500 * time.Millisecond, 1},
		"after it, filled up before":          {true, 2 * time.Second, 2},
		"after it, filled up in it":           {false, 2 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, time.Hour, func(w *world) found {
				return found{endpoints: []*gateway.Endpoint{
					gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointReconnectInterval(100*time.Millisecond)),
				}}
			}, func(w *world) {
				h, stop := runMemHost(t, w.net, "a", gateway.WithGrace(time.Second))
				last := h.keepConn()
				time.Sleep(3 * time.Second)
				frozen, thaw := w.joinFrozen()
				frozen.Write([]byte("hello"))
				if test.before {
					congest(t, w.onlyConn())
					assert.True(t, last.Load().Congested())
				}
				synctest.Wait()
				w.net.Refuse("a", true)
				w.net.Cut("a")
				synctest.Wait()
				congest(t, w.onlyConn())
				time.Sleep(test.outage)
				w.net.Refuse("a", false)
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Equal(t, test.opened, h.opened.Load())
				assert.False(t, last.Load().IsClosed())
				assert.True(t, last.Load().Congested())
				thaw()
				time.Sleep(time.Second)
				synctest.Wait()
				assert.False(t, last.Load().IsClosed())
				assert.False(t, last.Load().Congested())
				frozen.Close()
				stop()
			})
		})
	}
}

// A session that is congested already when it is opened on a backend is so there from the start.
func TestFlowOfALateSession(t *testing.T) {
	var a, b *gateway.Endpoint
	inWorld(t, time.Hour, func(w *world) found {
		if a == nil {
			a, b = gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("chat", w.net.Client("b"))
		}
		return found{endpoints: []*gateway.Endpoint{a, b}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		other, stopOther := runMemHost(t, w.net, "b")
		last, lastOther := h.keepConn(), other.keepConn()
		time.Sleep(3 * time.Second)
		frozen, thaw := w.joinFrozen()
		frozen.Write([]byte("hello"))
		congest(t, w.onlyConn())
		synctest.Wait()
		assert.True(t, last.Load().Congested())
		b.Forward(w.onlyConn(), []byte("hello"))
		synctest.Wait()
		assert.True(t, lastOther.Load().Congested())
		thaw()
		time.Sleep(time.Second)
		assert.False(t, last.Load().Congested() || lastOther.Load().Congested())
		frozen.Close()
		stop()
		stopOther()
	})
}

// FLOW that was lost with its lane is said again on the next one, behind OPEN.
func TestFlowIsNotLostWithItsLane(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		b, stop := runRawBackend(w, "a")
		time.Sleep(3 * time.Second)
		frozen, thaw := w.joinFrozen()
		frozen.Write([]byte("hello"))
		lane, other := b.lanes()
		assert.Equal(t, []byte{open, 0}, kinds(lane.said()))
		gate := lane.stall()
		frozen.Write([]byte("not handled yet"))
		synctest.Wait()
		congest(t, w.onlyConn())
		lane.conn.Abort(nil)
		synctest.Wait()
		close(gate)
		said := other.said()
		for len(said) > 0 && said[0].kind != open {
			said = said[1:]
		}
		if assert.Equal(t, []byte{open, flowOf}, kinds(said)) {
			assert.Equal(t, append(append([]byte{}, keyA...), 1), said[1].body)
		}
		thaw()
		frozen.Close()
		stop()
	})
}

// A queue that has room again while the backend is out of reach has room there as well, once it is back.
func TestFlowEndsWhileLinksAreDown(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a")
		last := h.keepConn()
		time.Sleep(3 * time.Second)
		frozen, thaw := w.joinFrozen()
		frozen.Write([]byte("hello"))
		synctest.Wait()
		congest(t, w.onlyConn())
		assert.True(t, last.Load().Congested())
		w.net.Refuse("a", true)
		w.net.Cut("a")
		thaw()
		time.Sleep(time.Second)
		assert.False(t, w.onlyConn().Congested())
		w.net.Refuse("a", false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.False(t, last.Load().IsClosed())
		assert.False(t, last.Load().Congested())
		frozen.Close()
		stop()
	})
}
