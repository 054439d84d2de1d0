package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

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

// A session that its backend has released, and that is back on the same lane before its CLOSE was written, is no member of the
// group any more, and gets what is for everybody once.
func TestCastsLeaveOutWhoHasLeftAndIsBack(t *testing.T) {
	for name, test := range map[string]struct {
		cast func(lane *rawBacklink)
		want int
	}{
		"group": {func(lane *rawBacklink) { lane.castGroup("room", "two") }, 0},
		"all":   {func(lane *rawBacklink) { lane.castAll("two") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, time.Hour, func(w *world) found {
				return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
			}, func(w *world) {
				a, stop := runRawBackend(w, "a")
				time.Sleep(3 * time.Second)
				cli, got := w.ClientFrom("203.0.113.7:4711")
				var conn *server.Conn
				for _, conn = range w.Conns() {
				}
				cli.Write([]byte("x"))
				lane := a.only()
				lane.join("room", keyA)
				lane.castGroup("room", "one")
				assert.Equal(t, "one", string(<-got))
				gate := lane.stall()
				cli.Write([]byte("not handled yet"))
				synctest.Wait()
				lane.control(release, keyA)
				synctest.Wait()
				assert.Nil(t, w.EndpointOf("game", conn))
				cli.Write([]byte("again"))
				synctest.Wait()
				test.cast(lane)
				synctest.Wait()
				assert.LessOrEqual(t, len(got), test.want)
				close(gate)
				cli.Close()
				stop()
			})
		})
	}
}

// A cast that was queued for a link which is lost before it was written reaches its clients as a Write does, or is counted.
func TestCastIsNotLostInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gwtest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		last := h.keepConn()
		first, second := newRawLink(t, net, "a"), newRawLink(t, net, "a")
		for _, l := range []*rawLink{first, second} {
			l.control(hello, helloBody(1, 1, 9, nil))
		}
		first.control(open, openBodyFor(keyA))
		synctest.Wait()
		free := make(chan struct{})
		first.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { <-free })
		outcome := make(chan error, 2)
		last.Load().Write([]byte("stops the reader"))
		synctest.Wait()
		require.NoError(t, h.Cast([]*server.Conn{last.Load()}, []byte("cast")))
		last.Load().Write([]byte("written"), func(err error) { outcome <- err })
		synctest.Wait()
		require.Empty(t, outcome)
		first.Abort(nil)
		close(free)
		second.kinds()
		resumed := resumedBodyFor(keyA, 2)
		resumed[26] = 1 // received: what stopped the reader
		second.control(open, resumed)
		came := second.kinds()
		assert.Error(t, <-outcome, "who writes is told")
		stats := h.Stats()
		assert.True(t, len(came) > 1 || stats.LostDown+stats.ControlUnsent > 0, "came: %v, %+v", came, stats)
		second.Close()
		stop()
	})
}
