package server_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// warden is an admission that a test decides about.
type warden struct {
	asked  chan message
	answer chan error // closed: lets everybody in
}

func newWarden() *warden {
	return &warden{asked: make(chan message, 64), answer: make(chan error)}
}

func (w *warden) admit(conn *server.Conn, first []byte) error {
	w.asked <- message{conn, string(first)}
	return <-w.answer
}

var handlerModes = map[string]server.Option{"direct": nil, "async": server.WithAsyncHandlers(), "serial": server.WithSerialHandlers()}

// withAdmission runs f for each network, engine and way of running handlers.
func withAdmission(t *testing.T, f func(t *testing.T, network string, opts ...server.Option)) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		for name, mode := range handlerModes {
			t.Run(name, func(t *testing.T) { f(t, network, engine, mode) })
		}
	})
}

// join connects a peer that nobody hears of yet, and sends its ticket.
func join(t testing.TB, h *host, ticket string) *conformance.Peer {
	t.Helper()
	p := conformance.Dial(t, h.network, h.addr, "/")
	p.Write(text, []byte(ticket))
	return p
}

// unheard checks that nobody has heard of a connection.
func unheard(t testing.TB, h *host) {
	t.Helper()
	assert.Zero(t, h.GetOnlineCount())
	assert.Empty(t, h.opened)
	assert.Empty(t, h.packets)
	assert.Empty(t, h.closed)
	assert.Zero(t, h.Stats().Opened)
	assert.Zero(t, h.Stats().Closed)
}

// A client that is let in is opened then, with what the function has stored, and what it has sent meanwhile comes in order.
func TestAdmission(t *testing.T) {
	const packets = 100
	withAdmission(t, func(t *testing.T, network string, opts ...server.Option) {
		w := newWarden()
		h := serve(t, network, append(opts, server.WithAdmission(w.admit, 0))...).echo()
		p := join(t, h, "ticket")
		for i := range packets {
			p.Write(text, []byte(strconv.Itoa(i)))
		}
		asked := await(t, w.asked, "question")
		assert.Equal(t, "ticket", asked.data)
		unheard(t, h)
		asked.conn.SetData("name", "alice")
		asked.conn.Write([]byte("welcome"))
		p.Expect(text, []byte("welcome"))
		w.answer <- nil
		conn := await(t, h.opened, "opened event")
		assert.Equal(t, "alice", conn.GetData("name"))
		assert.Equal(t, 1, h.GetOnlineCount())
		for i := range packets {
			assert.Equal(t, strconv.Itoa(i), h.next(t).data)
			p.Expect(text, []byte(strconv.Itoa(i)))
		}
		p.Write(text, []byte("on"))
		p.Expect(text, []byte("on"))
		p.Farewell()
		assert.Nil(t, h.end(t))
		countedOut(t, h)
		assert.Zero(t, h.Stats().ConnectionsRefused)
	})
}

// A client that isn't is told that much, after what the function wrote. Nobody hears of it.
func TestAdmissionRefused(t *testing.T) {
	banned := errors.New("banned until 2038: a secret")
	for name, verdict := range map[string]func(*server.Conn) error{
		"error": func(*server.Conn) error { return banned },
		"panic": func(*server.Conn) error { panic(banned.Error()) },
	} {
		t.Run(name, func(t *testing.T) {
			withAdmission(t, func(t *testing.T, network string, opts ...server.Option) {
				contexts := make(chan context.Context, 1)
				h := serve(t, network, append(opts, server.WithAdmission(func(conn *server.Conn, _ []byte) error {
					contexts <- conn.Context()
					conn.Write([]byte("go away"))
					return verdict(conn)
				}, time.Hour))...)
				p := join(t, h, "ticket")
				p.Expect(text, []byte("go away"))
				_, _, err := p.Read()
				if network == ws {
					assert.Equal(t, &conformance.Farewell{Code: 1008, Reason: "not admitted"}, err)
				} else {
					assert.Error(t, err)
				}
				p.Cut()
				countedOut(t, h)
				ctx := <-contexts
				await(t, ctx.Done(), "end of the context")
				assert.ErrorIs(t, context.Cause(ctx), server.ErrNotAdmitted)
				assert.ErrorIs(t, context.Cause(ctx), net.ErrClosed)
				assert.Equal(t, map[server.Refusal]uint64{server.RefusedAdmission: 1}, h.Stats().Refusals)
				unheard(t, h)
			})
		})
	}
}

// The function may close the connection with words of its own.
func TestAdmissionClosesByItself(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		for name, verdict := range map[string]error{"error": errEnough, "nil": nil} {
			h := serve(t, network, engine, server.WithAdmission(func(conn *server.Conn, _ []byte) error {
				conn.CloseWith(4001, "banned")
				return verdict
			}, 0))
			p := join(t, h, "ticket")
			p.ExpectFarewell(4001)
			p.Cut()
			countedOut(t, h)
			unheard(t, h)
			assert.Equal(t, name == "error", h.Stats().Refusals[server.RefusedAdmission] == 1)
		}
	})
}

// The deadline holds for the first packet, a part of which doesn't extend it, and nothing is heard of who misses it.
func TestAdmissionDeadlineWithoutPacket(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		w := newWarden()
		h := newHost(network, engine, server.WithAdmission(w.admit, 50*time.Millisecond))
		h.begin(t, t.Context(), address(t, network))
		p := conformance.Dial(t, network, h.addr, "/")
		p.Send(p.Packet(text, []byte("ticket"))[:3])
		p.ExpectFarewell(1008)
		p.Cut()
		countedOut(t, h)
		h.Shutdown()
		require.NoError(t, h.Wait())
		assert.Equal(t, map[server.Refusal]uint64{server.RefusedAdmissionTime: 1}, h.Stats().Refusals)
		assert.Empty(t, w.asked)
		unheard(t, h)
	})
}

// The deadline holds for the function too, whose late answer changes nothing. Until then the connection counts.
func TestAdmissionDeadlineOfFunction(t *testing.T) {
	for _, verdict := range []error{nil, errEnough} {
		everywhere(t, func(t *testing.T, network string, engine server.Option) {
			w := newWarden()
			h := serve(t, network, engine, server.WithAdmission(w.admit, 500*time.Millisecond))
			p := join(t, h, "ticket")
			asked := await(t, w.asked, "question")
			await(t, asked.conn.Context().Done(), "end of the context")
			assert.Equal(t, server.ErrNotAdmitted, context.Cause(asked.conn.Context()))
			p.ExpectFarewell(1008)
			p.Cut()
			require.Eventually(t, func() bool { return h.Stats().Refusals[server.RefusedAdmissionTime] == 1 }, patience, tick)
			present, _, _ := server.Counted(h.Server)
			assert.Equal(t, 1, present)
			w.answer <- verdict
			countedOut(t, h)
			assert.EqualValues(t, 1, h.Stats().ConnectionsRefused)
			unheard(t, h)
		})
	}
}

// The deadline is exact, and doesn't concern who is in.
func TestAdmissionDeadlineIsAbsolute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, tcp, server.WithAdmission(func(*server.Conn, []byte) error {
			time.Sleep(time.Second)
			return nil
		}, 10*time.Second))
		begun := time.Now()
		slow := conformance.NewPeer(t, h.pipes.dial(), tcp)
		defer slow.Cut()
		fast := conformance.NewPeer(t, h.pipes.dial(), tcp)
		fast.Write(none, []byte("ticket"))
		<-h.opened
		assert.Equal(t, time.Second, time.Since(begun))
		go func() { // a byte a second
			for _, b := range slow.Packet(none, make([]byte, 100)) {
				time.Sleep(time.Second)
				if _, err := slow.Conn.Write([]byte{b}); err != nil {
					return
				}
			}
		}()
		slow.ExpectEnd()
		assert.Equal(t, 10*time.Second, time.Since(begun))
		time.Sleep(time.Minute)
		fast.Write(none, []byte("still here"))
		<-h.packets
		fast.Cut()
		h.end(t)
	})
}

// A client that leaves before it is let in is nobody's news.
func TestAdmissionClientLeaves(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		w := newWarden()
		h := serve(t, network, engine, server.WithAdmission(w.admit, 0))
		silent := conformance.Dial(t, network, h.addr, "/")
		silent.Cut()
		countedOut(t, h)
		unheard(t, h)

		join(t, h, "ticket").Cut()
		asked := await(t, w.asked, "question")
		w.answer <- errEnough
		countedOut(t, h)
		assert.True(t, asked.conn.IsClosed())
		unheard(t, h)
	})
}

// On an event loop only so much waits, and one client's function holds up nobody else.
func TestAdmissionHoldsUpNobody(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		w := newWarden()
		h := serve(t, network, engine, server.WithEventLoops(1), server.WithAdmission(func(conn *server.Conn, first []byte) error {
			if string(first) == "slow" {
				return w.admit(conn, first)
			}
			return nil
		}, 0)).echo()
		slow := join(t, h, "slow")
		await(t, w.asked, "question")
		fast := join(t, h, "fast")
		await(t, h.opened, "opened event")
		fast.Write(text, []byte("hello"))
		fast.Expect(text, []byte("hello"))
		w.answer <- nil
		await(t, h.opened, "opened event")
		slow.Write(text, []byte("hello"))
		slow.Expect(text, []byte("hello"))
	})
}

// Shutdown waits for functions as it does for handlers: as long as the shutdown timeout, and no longer.
func TestAdmissionAtShutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		everywhere(t, func(t *testing.T, network string, engine server.Option) {
			timeout := patience
			if !patient {
				timeout = time.Millisecond
			}
			w := newWarden()
			h := newHost(network, engine, server.WithAdmission(w.admit, time.Hour), server.WithShutdownTimeout(timeout))
			h.start0(t)
			p := join(t, h, "ticket")
			asked := await(t, w.asked, "question")
			h.Shutdown()
			await(t, asked.conn.Context().Done(), "end of the context")
			if patient {
				close(w.answer)
				p.ExpectFarewell(1001)
				p.Cut()
				assert.NoError(t, await(t, h.ended, "end of Run"))
			} else {
				assert.ErrorIs(t, await(t, h.ended, "end of Run"), server.ErrShutdownTimeout)
				close(w.answer)
			}
			countedOut(t, h)
			unheard(t, h)
		})
	}
}

// Many at once, let in and not, leave nothing behind.
func TestAdmissionStorm(t *testing.T) {
	const clients = 200
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithAdmission(func(_ *server.Conn, first []byte) error {
			if first[0]%2 == 0 {
				return errEnough
			}
			return nil
		}, 0))
		for i := range clients {
			p := join(t, h, string([]byte{'0' + byte(i%4)}))
			if i%3 == 0 {
				p.Cut()
			} else {
				t.Cleanup(p.Cut)
			}
		}
		require.Eventually(t, func() bool { s := h.Stats(); return s.Opened+s.ConnectionsRefused >= clients/2 }, patience, tick)
		h.Shutdown()
		countedOut(t, h)
		s := h.Stats()
		assert.Equal(t, s.Opened, s.Closed)
	})
}
