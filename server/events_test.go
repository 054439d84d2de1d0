package server_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// record is what happened, in order.
type record struct {
	mu     sync.Mutex
	events []string
}

func (r *record) add(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event)
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.events...)
}

func TestServerEvents(t *testing.T) {
	for _, network := range append(networks, "none") {
		t.Run(network, func(t *testing.T) {
			var r record
			srv := server.New(server.Network(network), server.WithLogger(quiet))
			for _, event := range []struct {
				name     string
				register func(add func(name string) func(*server.Server), name string)
			}{
				{"stop", func(add func(string) func(*server.Server), n string) {
					srv.RegStopEvent(add(n+" late"), 1)
					srv.RegStopEvent(add(n))
				}},
				{"ready", func(add func(string) func(*server.Server), n string) {
					srv.RegMessageReadyEvent(func(*server.Server) { srv.Shutdown() }, 2)
					srv.RegMessageReadyEvent(add(n+" late"), 1)
					srv.RegMessageReadyEvent(add(n))
				}},
				{"finish", func(add func(string) func(*server.Server), n string) {
					srv.RegStartFinishEvent(add(n))
					srv.RegStartFinishEvent(add(n+" early"), -1)
				}},
				{"before", func(add func(string) func(*server.Server), n string) {
					srv.RegStartBeforeEvent(add(n))
					srv.RegStartBeforeEvent(add(n + " too"))
				}},
			} {
				event.register(func(name string) func(*server.Server) {
					return func(s *server.Server) {
						assert.True(t, srv == s)
						listening := s.Addr() != nil
						r.add(name + " " + strconv.FormatBool(listening))
					}
				}, event.name)
			}
			require.NoError(t, srv.Run(address(t, network)))
			listening := strconv.FormatBool(network != "none")
			assert.Equal(t, []string{
				"before false", "before too false", "finish early " + listening, "finish " + listening,
				"ready " + listening, "ready late " + listening, "stop " + listening, "stop late " + listening,
			}, r.all())
			assert.Nil(t, srv.Addr())
		})
	}
}

func TestConnectionEvents(t *testing.T) {
	modes := map[string][]server.Option{
		"direct": nil, "async": {server.WithAsyncHandlers()}, "serial": {server.WithSerialHandlers()},
		"serial and async": {server.WithAsyncHandlers(), server.WithSerialHandlers()},
	}
	for mode, opts := range modes {
		for _, network := range networks {
			t.Run(mode+" "+network, func(t *testing.T) {
				var r record
				h := newHost(network, opts...)
				on := func(name string) func(*server.Server, *server.Conn) {
					return func(*server.Server, *server.Conn) { r.add(name) }
				}
				h.RegConnectionOpenedAfterEvent(on("opened after late"), 1)
				h.RegConnectionOpenedAfterEvent(on("opened after"))
				h.RegConnectionOpenedEvent(on("opened late"), 5)
				h.RegConnectionOpenedEvent(on("opened early"), -5)
				h.RegConnectionPacketPreprocessEvent(func(_ *server.Server, _ *server.Conn, packet []byte, _ func(), _ func([]byte)) {
					r.add("pre " + string(packet))
				})
				h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) { r.add("late " + string(packet)) }, 1)
				h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) { r.add(string(packet)) }, -1)
				h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { r.add("closed") }, -1)
				h.start(t)

				p, _ := h.dial(t)
				p.Send(append(p.Packet(text, []byte("a")), p.Packet(text, []byte("b"))...))
				p.Farewell()
				assert.Nil(t, h.end(t))
				assert.Equal(t, []string{
					"opened early", "opened late", "opened after", "opened after late",
					"pre a", "a", "late a", "pre b", "b", "late b", "closed",
				}, r.all())
			})
		}
	}
}

func TestPreprocess(t *testing.T) {
	var seen record
	h := newHost(tcp)
	h.RegConnectionPacketPreprocessEvent(func(_ *server.Server, conn *server.Conn, packet []byte, abort func(), usePacket func([]byte)) {
		seen.add("first " + string(packet))
		switch string(packet) {
		case "drop":
			abort()
		case "change":
			conn.SetMessageData("changed", true)
			usePacket([]byte("changed"))
		case "both":
			usePacket([]byte("nobody sees this"))
			abort()
		}
	})
	h.RegConnectionPacketPreprocessEvent(func(_ *server.Server, _ *server.Conn, packet []byte, _ func(), usePacket func([]byte)) {
		seen.add("second " + string(packet))
		if string(packet) == "changed" {
			usePacket(append(packet, " twice"...))
		}
	}, 1)
	h.start(t)
	p, _ := h.dial(t)
	for _, packet := range []string{"drop", "change", "both", "keep"} {
		p.Write(binary, []byte(packet))
	}
	got := h.next(t)
	assert.Equal(t, "changed twice", got.data)
	assert.Equal(t, true, got.conn.GetMessageData("changed"))
	assert.Equal(t, "keep", h.next(t).data)
	p.Farewell()
	assert.Nil(t, h.end(t))
	assert.Empty(t, h.packets)
	assert.Equal(t, []string{
		"first drop", "first change", "second changed", "first both", "first keep", "second keep",
	}, seen.all())
	assert.EqualValues(t, 2, h.Stats().PacketsAborted)
}

func TestWritePacketBefore(t *testing.T) {
	h := newHost(ws)
	h.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, conn *server.Conn, packet []byte) []byte {
		if number, ok := conn.GetMessageData("number").(string); ok {
			return append([]byte(number+":"), packet...)
		}
		return packet
	})
	h.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, _ *server.Conn, packet []byte) []byte {
		return append([]byte("<"), packet...)
	}, 1)
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		conn.SetMessageData("number", string(packet)).Write([]byte("got it"))
	})
	h.start(t)
	p, conn := h.dial(t)
	p.Write(text, []byte("1"))
	p.Write(text, []byte("2"))
	p.Expect(text, []byte("<1:got it"))
	p.Expect(text, []byte("<2:got it"))

	h.Broadcast([]byte("to all"))
	p.Expect(text, []byte("<to all"))
	h.GetOnline(conn.GetID()).Write([]byte("to one"))
	p.Expect(text, []byte("<to one"))
	conn.Write([]byte("from the opened event's view"))
	p.Expect(text, []byte("<from the opened event's view"))
}

func TestRegisterWhileRunning(t *testing.T) {
	h := serve(t, tcp)
	p, _ := h.dial(t)
	p.Write(binary, []byte("a"))
	h.next(t)
	later := make(chan string, 2)
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) { later <- string(packet) })
	p.Write(binary, []byte("b"))
	assert.Equal(t, "b", await(t, later, "packet"))
}

// A panic in any handler costs the connection it ran for, and nothing else.
func TestHandlerPanics(t *testing.T) {
	const bad = "bad"
	isBad := func(conn *server.Conn) bool { return conn.GetData("name") == bad }
	cases := map[string]func(h *host){
		"opened": func(h *host) {
			h.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { panicIf(isBad(conn)) }, 1)
		},
		"opened after": func(h *host) {
			h.RegConnectionOpenedAfterEvent(func(_ *server.Server, conn *server.Conn) { panicIf(isBad(conn)) })
		},
		"preprocess": func(h *host) {
			h.RegConnectionPacketPreprocessEvent(func(_ *server.Server, conn *server.Conn, _ []byte, _ func(), _ func([]byte)) {
				panicIf(isBad(conn))
			})
		},
		"receive": func(h *host) {
			h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, _ []byte) { panicIf(isBad(conn)) }, -1)
		},
		"write before": func(h *host) {
			h.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, conn *server.Conn, packet []byte) []byte {
				panicIf(isBad(conn))
				return packet
			})
		},
	}
	for name, register := range cases {
		for mode, opts := range map[string][]server.Option{"direct": nil, "async": {server.WithAsyncHandlers()}, "serial": {server.WithSerialHandlers()}} {
			t.Run(name+" "+mode, func(t *testing.T) {
				l, logger := newLogs()
				h := newHost(ws, append(opts, logger)...).echo()
				register(h)
				h.start(t)
				good := dialNamed(t, h, "good")
				broken := dialNamed(t, h, bad)
				broken.Write(text, []byte("hello"))
				broken.ExpectFarewell(1011)
				broken.Cut()
				err := h.endError(t)
				assert.ErrorIs(t, err, server.ErrHandlerPanic)
				assert.ErrorContains(t, err, "on purpose")
				line := l.expect(t, 8, "handler panicked")
				assert.Contains(t, line, "on purpose")
				assert.Contains(t, line, "events_test.go", "the stack shows the handler")
				assert.NotZero(t, h.Stats().HandlerPanics)

				good.Write(text, []byte("still here"))
				good.Expect(text, []byte("still here"))
			})
		}
	}
}

func TestHandlerPanicsAtTheEnd(t *testing.T) {
	h := newHost(tcp)
	h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { panic("on purpose") }, -1)
	h.RegStartFinishEvent(func(*server.Server) { panic("on purpose") }, -1)
	h.RegStopEvent(func(*server.Server) { panic("on purpose") })
	h.start(t)
	p, conn := h.dial(t)
	p.Farewell()
	assert.Nil(t, h.end(t), "the next closed handler runs all the same")
	p.ExpectEnd()
	require.Eventually(t, func() bool { return !h.IsOnline(conn.GetID()) }, patience, tick)
	assert.EqualValues(t, 2, h.Stats().HandlerPanics)
}

func TestCallbackPanics(t *testing.T) {
	l, logger := newLogs()
	h := serve(t, tcp, logger)
	p, conn := h.dial(t)
	conn.Write([]byte("first"), func(error) { panic("on purpose") })
	assert.NoError(t, await(t, write(conn, []byte("second")), "callback"))
	p.Expect(binary, []byte("first"))
	p.Expect(binary, []byte("second"))
	l.expect(t, 8, "write callback panicked")
	assert.EqualValues(t, 1, h.Stats().HandlerPanics)
}

func panicIf(bad bool) {
	if bad {
		panic("on purpose")
	}
}
