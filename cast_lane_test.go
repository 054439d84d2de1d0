package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// What is for everybody on a lane is not for a session whose backend has not taken it up there yet: that writes to it by itself.
func TestCastToAllLeavesOutTheResuming(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		b, stop := runRawBackend(w, "a")
		time.Sleep(3 * time.Second)
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("x"))
		lane, other := b.lanes()
		neighbour, heard := w.ClientFrom("203.0.113.8:4711")
		neighbour.Write([]byte("x"))
		assert.Equal(t, []byte{open, 0}, kinds(lane.said()))
		assert.Equal(t, []byte{open, 0}, kinds(other.said()))

		lane.conn.Abort(nil)
		resumed := other.said()
		require.Equal(t, []byte{open}, kinds(resumed))
		assert.Equal(t, append(append([]byte{}, keyA...), 0, 0, 0, 3, 1), resumed[0].body[:11], "the third OPEN, resumed")
		expect := func(text string, mine bool) {
			synctest.Wait()
			if assert.Len(t, heard, 1, text) {
				assert.Equal(t, text, string(<-heard))
			}
			if !mine {
				assert.Empty(t, got, text)
			} else if assert.Len(t, got, 1, text) {
				assert.Equal(t, text, string(<-got))
			}
		}
		other.castAll("too early")
		expect("too early", false)
		other.attached(keyA, 1)
		other.castAll("still")
		expect("still", false)
		other.attached(keyA, 3)
		other.castAll("to both")
		expect("to both", true)
		stats := w.Stats()
		assert.EqualValues(t, 4, stats.PacketsDelivered)
		assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.ControlStray)
		cli.Close()
		neighbour.Close()
		stop()
	})
}

// A member of a group that has left for elsewhere, with its CLOSE not written yet, is no member any more: it is not open on the
// cast's lane, and counted.
func TestGroupCastLeavesOutWhoHasLeft(t *testing.T) {
	for name, goOn := range map[string]func(w *world, conn *server.Conn, a, b *gateway.Endpoint){
		"nowhere":          func(*world, *server.Conn, *gateway.Endpoint, *gateway.Endpoint) {},
		"another lane":     func(_ *world, conn *server.Conn, a, _ *gateway.Endpoint) { a.Forward(conn, []byte("again")) },
		"another endpoint": func(_ *world, conn *server.Conn, _, b *gateway.Endpoint) { b.Forward(conn, []byte("again")) },
	} {
		t.Run(name, func(t *testing.T) {
			var ea, eb *gateway.Endpoint
			inWorld(t, time.Hour, func(w *world) found {
				if ea == nil {
					ea = gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))
					eb = gateway.NewEndpoint("game", w.net.Client("b"))
				}
				return found{endpoints: []*gateway.Endpoint{ea, eb}}
			}, func(w *world) {
				a, stopA := runRawBackend(w, "a")
				_, stopB := runRawBackend(w, "b")
				time.Sleep(3 * time.Second)
				cli, got := w.ClientFrom("203.0.113.7:4711")
				var conn *server.Conn
				for _, conn = range w.Conns() {
				}
				ea.Forward(conn, []byte("x"))
				lane, other := a.lanes()
				lane.join("room", keyA)
				lane.castGroup("room", "one")
				assert.Equal(t, "one", string(<-got))

				gate := lane.stall()
				ea.Forward(conn, []byte("not handled yet"))
				synctest.Wait()
				lane.control(release, keyA)
				synctest.Wait()
				assert.True(t, w.EndpointOf("game", conn) == nil)
				goOn(w, conn, ea, eb)
				synctest.Wait()
				if name == "another lane" {
					assert.Equal(t, []byte{open, 0}, kinds(other.said()))
				}
				before := w.Stats()
				lane.castGroup("room", "two")
				synctest.Wait()
				assert.Empty(t, got)
				stats := w.Stats()
				assert.EqualValues(t, 1, stats.Casts-before.Casts)
				assert.EqualValues(t, 1, stats.DroppedNotOpen-before.DroppedNotOpen)
				assert.Zero(t, stats.PacketsDelivered-before.PacketsDelivered)

				close(gate)
				synctest.Wait()
				lane.castGroup("room", "three")
				synctest.Wait()
				assert.Empty(t, got)
				assert.Equal(t, stats.DroppedNotOpen, w.Stats().DroppedNotOpen, "its CLOSE is written: it is forgotten")
				cli.Close()
				stopA()
				stopB()
			})
		})
	}
}

// A membership ends with its session: who comes back on the same lane has to join again.
func TestGroupsEndWithTheirSessions(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		b, stop := runRawBackend(w, "a")
		time.Sleep(3 * time.Second)
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("x"))
		lane := b.only()
		lane.join("room", keyA)
		lane.castGroup("room", "one")
		assert.Equal(t, "one", string(<-got))
		lane.control(release, keyA)
		assert.Equal(t, []byte{open, 0, closeOf}, kinds(lane.said()))
		cli.Write([]byte("again"))
		assert.Equal(t, []byte{open, 0}, kinds(lane.said()))
		lane.castGroup("room", "two")
		synctest.Wait()
		assert.Empty(t, got)
		lane.join("room", keyA)
		lane.castGroup("room", "three")
		assert.Equal(t, "three", string(<-got))
		stats := w.Stats()
		assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.ControlStray)
		cli.Close()
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
				assert.True(t, w.EndpointOf("game", conn) == nil)
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
		net := gatewaytest.NewNetwork()
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
