package gateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// The state that goes along with a session gets there, though the first OPEN was lost with its link.
func TestStateOutlivesALostOpen(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		from, to := gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("other", w.net.Client("b"))
		return found{endpoints: []*gateway.Endpoint{from, to}}
	}, func(w *world) {
		h, stopA := runMemHost(t, w.net, "a", gateway.WithMoveState(func(*server.Conn) []byte { return []byte("the state") }))
		last := h.keepConn()
		b, stopB := runRawBackend(w, "b")
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("x"))
		<-got
		require.NoError(t, last.Load().Handoff("other", nil))
		for i, want := range []struct {
			resumed byte
			state   string
		}{{0, "the state"}, {1, "the state"}, {1, ""}} {
			l := b.newest(i + 1)
			said := l.said()
			require.Equal(t, []byte{open}, kinds(said))
			assert.Equal(t, want.resumed, said[0].body[10])
			state := said[0].body[len(said[0].body)-len(want.state)-4:]
			assert.Equal(t, append([]byte{0, 0, 0, byte(len(want.state))}, want.state...), state)
			if i == 1 { // it knows the session now
				l.conn.Write(append(append([]byte{}, said[0].body[:6]...), 0, 0, 0, 0, 'd'))
				assert.Equal(t, "d", string(<-got))
			}
			l.conn.Abort(nil)
			time.Sleep(3 * time.Second)
		}
		cli.Close()
		stopA()
		stopB()
	})
}

// A session that went elsewhere while its backend could not be told is closed there as soon as there is a link again.
func TestElsewhereMeanwhile(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{
			gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2)),
			gateway.NewEndpoint("game", w.net.Client("b")),
		}}
	}, func(w *world) {
		a, stopA := runMemHost(t, w.net, "a")
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("x"))
		<-got
		b, stopB := runMemHost(t, w.net, "b")
		time.Sleep(3 * time.Second)
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		cli.Write([]byte("y"))
		<-got
		assert.EqualValues(t, 1, b.opened.Load())
		assert.Equal(t, 1, a.srv.GetOnlineCount(), "it waits for its gateway")
		w.net.Refuse("a", false)
		time.Sleep(4 * time.Second) // that is within the grace time
		synctest.Wait()
		assert.Zero(t, a.srv.GetOnlineCount())
		assert.Equal(t, 1, b.srv.GetOnlineCount())
		cli.Close()
		stopA()
		stopB()
	})
}

// What a link had not written when another backend was found at its address is not for that one: it fails.
func TestNothingGoesToTheNextBackend(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		b, stop := runRawBackend(w, "a")
		time.Sleep(3 * time.Second)
		cli, _ := w.join()
		cli.Write([]byte("here"))
		lane, other := b.lanes()
		gate := lane.stall()
		const packets = 20
		for range packets {
			cli.Write(make([]byte, 10<<10))
		}
		synctest.Wait()
		require.EqualValues(t, packets+1, w.Stats().PacketsReceived)
		require.Less(t, w.Stats().PacketsForwarded, uint64(packets))
		b.mu.Lock()
		b.instance = 1
		b.mu.Unlock()
		other.conn.Abort(nil)
		time.Sleep(3 * time.Second)
		close(gate)
		synctest.Wait()
		assert.EqualValues(t, packets+1, w.Stats().PacketsForwarded+w.Stats().ForwardsFailed)
		cli.Write([]byte("new"))
		synctest.Wait()
		var said []byte
		b.mu.Lock()
		for _, l := range b.links[2:] {
			said = append(said, kinds(l.heard)...)
		}
		b.mu.Unlock()
		assert.Equal(t, []byte{open, 0}, said, "and none of the old packets")
		cli.Close()
		stop()
	})
}

// A handoff that is asked for while the session has no link is asked for when it has one again.
func TestHandoffWhileDetached(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		from, to := gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("match", w.net.Client("b"))
		return found{endpoints: []*gateway.Endpoint{from, to}}
	}, func(w *world) {
		a, stopA := runMemHost(t, w.net, "a")
		last := a.keepConn()
		b, stopB := runMemHost(t, w.net, "b")
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("x"))
		<-got
		w.net.Refuse("a", true)
		w.net.Cut("a")
		synctest.Wait()
		require.NoError(t, last.Load().Handoff("match", []byte("state")))
		w.net.Refuse("a", false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Equal(t, []int{0, 1}, []int{a.srv.GetOnlineCount(), b.srv.GetOnlineCount()})
		cli.Close()
		stopA()
		stopB()
	})
}
