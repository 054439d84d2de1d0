package gateway_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// A player that leaves a backend which can't be reached is closed there as soon as it can be, and not after the grace time.
func TestBackendIsToldWhenItIsBack(t *testing.T) {
	for name, leave := range map[string]func(w *world, conn *server.Conn, other *gateway.Endpoint){
		"left":            func(_ *world, conn *server.Conn, _ *gateway.Endpoint) { conn.Close() },
		"moved elsewhere": func(w *world, conn *server.Conn, other *gateway.Endpoint) { assert.NoError(t, w.MoveConn(conn, other)) },
	} {
		t.Run(name, func(t *testing.T) {
			var a, b *gateway.Endpoint
			inWorld(t, time.Hour, func(w *world) found {
				if a == nil {
					a = gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))
					b = gateway.NewEndpoint("game", w.net.Client("b"))
				}
				return found{endpoints: []*gateway.Endpoint{a, b}}
			}, func(w *world) {
				h, stop := runMemHost(t, w.net, "a", gateway.WithGrace(time.Hour))
				_, stopOther := runMemHost(t, w.net, "b")
				var mu sync.Mutex
				closed := map[string][]any{}
				h.srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) {
					mu.Lock()
					defer mu.Unlock()
					closed[conn.RemoteAddr().String()] = append(closed[conn.RemoteAddr().String()], err)
				})
				time.Sleep(3 * time.Second)
				leaves, _ := w.ClientFrom("203.0.113.7:4711")
				stays, got := w.ClientFrom("203.0.113.8:4711")
				conns := map[string]*server.Conn{}
				for _, conn := range w.Conns() {
					conns[conn.RemoteAddr().String()] = conn
					a.Forward(conn, []byte("x"))
				}
				assert.Equal(t, "x", string(<-got))
				synctest.Wait()
				require.Equal(t, 2, h.srv.GetOnlineCount())
				w.net.Refuse("a", true)
				w.net.Cut("a")
				synctest.Wait()
				leave(w, conns["203.0.113.7:4711"], b)
				time.Sleep(3 * time.Second)
				assert.Equal(t, 2, h.srv.GetOnlineCount(), "nobody could tell it")
				w.net.Refuse("a", false)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				mu.Lock()
				assert.Equal(t, map[string][]any{"203.0.113.7:4711": {nil}}, closed)
				mu.Unlock()
				a.Forward(conns["203.0.113.8:4711"], []byte("on"))
				assert.Equal(t, "on", string(<-got), "the other one goes on")
				assert.Zero(t, h.Stats().StrayControl)
				leaves.Close()
				stays.Close()
				stop()
				stopOther()
			})
		})
	}
}

// A group is told again when its member goes on over another link, and reaches it meanwhile.
func TestGroupIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		room := h.Group("room")
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { room.Join(conn) })
		first, second := newRawLink(t, net, "a"), newRawLink(t, net, "a")
		for _, l := range []*rawLink{first, second} {
			l.control(hello, helloBody(1, 1, 9, nil))
			assert.Equal(t, []byte{welcome, readyState}, l.kinds())
		}
		first.control(open, openBodyFor(keyA))
		assert.Equal(t, []byte{join}, first.kinds())
		require.NoError(t, room.Cast([]byte("one")))
		assert.Equal(t, []byte{cast}, first.kinds())
		assert.Equal(t, 1, gateway.GroupLanes(room))
		first.Abort(nil)
		synctest.Wait()
		assert.Zero(t, gateway.GroupLanes(room), "a link that is lost reaches nobody")
		require.NoError(t, room.Cast([]byte("two")))
		assert.Empty(t, second.kinds())
		second.control(open, resumedBodyFor(keyA, 2))
		assert.Equal(t, []byte{attached, 0, join}, second.kinds(), "what was kept, as data")
		require.NoError(t, room.Cast([]byte("three")))
		assert.Equal(t, []byte{cast}, second.kinds())
		assert.Equal(t, 1, gateway.GroupLanes(room))
		assert.EqualValues(t, 2, h.Stats().Casts)
		second.Close()
		stop()
	})
}
