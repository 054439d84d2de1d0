package gateway_test

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// rawBackend is a backend made by hand: it shakes hands, and leaves the rest to the test. Each link's instance is what instance
// says then.
type rawBackend struct {
	instance atomic.Int32
	links    struct {
		sync.Mutex
		all []*server.Conn
	}
	receive func(conn *server.Conn, packet []byte) // whatever isn't HELLO or PING
}

func (b *rawBackend) run(w *world, addr string) (stop func()) {
	srv := server.New("tcp", server.WithTransport(w.net.Transport()), server.WithLinks(), server.WithLogger(quiet))
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		switch {
		case isControl(packet, true) && packet[10] == hello:
			answer := forgedWelcome(1, nil, nil, packet[11:])
			answer[12] = byte(b.instance.Load()) // the first byte of the instance
			conn.Write(answer)
			conn.Write(forgedReady())
			b.links.Lock()
			b.links.all = append(b.links.all, conn)
			b.links.Unlock()
		case isControl(packet, true) && packet[10] == 16:
			conn.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17}, packet[11:]...))
		default:
			b.receive(conn, packet)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(addr) }()
	synctest.Wait()
	return func() { srv.Shutdown(); assert.NoError(w.t, <-ended) }
}

// The state that goes along with a session gets there, though the first OPEN was lost with its link.
func TestStateOutlivesALostOpen(t *testing.T) {
	var b rawBackend
	var opens atomic.Int32
	var resumed, silent []byte
	b.receive = func(conn *server.Conn, packet []byte) {
		switch {
		case !isControl(packet, true) || packet[10] != open:
		case opens.Add(1) == 1: // as if it had never come
			conn.Abort(nil)
		case opens.Load() == 2:
			resumed = bytes.Clone(packet[11:])
			answer := append(append([]byte{}, resumed[:6]...), 0, 0, 0, 0, 'd') // it knows the session now
			conn.Write(answer, func(error) { conn.Abort(nil) })
		default:
			silent = bytes.Clone(packet[11:])
		}
	}
	var from, to *gateway.Endpoint
	inWorld(t, time.Hour, func(w *world) found {
		from, to = gateway.NewEndpoint("game", w.net.Client("a")), gateway.NewEndpoint("other", w.net.Client("b"))
		return found{endpoints: []*gateway.Endpoint{from, to}}
	}, func(w *world) {
		state := func(*server.Conn) []byte { return []byte("the state") }
		h, stopA := runMemHost(t, w.net, "a", gateway.WithMoveState(state))
		stopB := b.run(w, "b")
		time.Sleep(3 * time.Second)
		cli, got := w.join()
		cli.Write([]byte("x"))
		<-got
		var conn *server.Conn
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, c *server.Conn) { conn = c })
		cli2, got2 := w.join()
		cli2.Write([]byte("y"))
		<-got2
		require.NotNil(t, conn)
		require.NoError(t, conn.Handoff("other", nil))
		time.Sleep(8 * time.Second)
		synctest.Wait()
		require.GreaterOrEqual(t, opens.Load(), int32(3))
		require.NotEmpty(t, resumed)
		assert.EqualValues(t, 1, resumed[10]&1, "resumed")
		assert.Equal(t, "the state", string(resumed[len(resumed)-9:]))
		assert.NotContains(t, string(silent), "the state", "once is enough")
		cli.Close()
		cli2.Close()
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
	var b rawBackend
	var stuck chan struct{}
	lane := ""
	var second struct{ opens, data atomic.Int32 }
	b.receive = func(conn *server.Conn, packet []byte) {
		switch {
		case b.instance.Load() == 0 || conn.GetID() == lane:
			if lane == "" && !isControl(packet, true) {
				lane = conn.GetID()
				<-stuck // and reads no more
			}
		case isControl(packet, true) && packet[10] == open:
			second.opens.Add(1)
		case !isControl(packet, true):
			second.data.Add(1)
		}
	}
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"), gateway.WithEndpointConnectionPoolSize(2))}}
	}, func(w *world) {
		stuck = make(chan struct{}) // of the bubble
		stop := b.run(w, "a")
		time.Sleep(3 * time.Second)
		cli, _ := w.join()
		const packets = 20
		for range packets {
			cli.Write(make([]byte, 10<<10))
		}
		synctest.Wait()
		require.EqualValues(t, packets, w.Stats().PacketsReceived)
		require.Less(t, w.Stats().PacketsForwarded, uint64(packets))
		require.Len(t, b.links.all, 2)
		b.instance.Store(1)
		for _, l := range b.links.all {
			if l.GetID() != lane {
				l.Abort(nil)
			}
		}
		time.Sleep(3 * time.Second)
		close(stuck)
		synctest.Wait()
		assert.Zero(t, second.data.Load(), "none of the old packets")
		assert.EqualValues(t, packets, w.Stats().PacketsForwarded+w.Stats().ForwardsFailed)
		cli.Write([]byte("new"))
		synctest.Wait()
		assert.EqualValues(t, 1, second.data.Load())
		assert.EqualValues(t, 1, second.opens.Load())
		cli.Close()
		stop()
	})
}
