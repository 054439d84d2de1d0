//go:build linux && !noloops

package server_test

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// lives is what handlers were told of each connection.
type lives struct {
	mu  sync.Mutex // guards the rest
	all map[string][]string
}

// lifeHost is a server on loops that notes lives.
func lifeHost(network string, opts ...server.Option) (*host, *lives) {
	h, l := newHost(network, append(opts, onLoops)...), &lives{all: map[string][]string{}}
	h.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { l.note(conn, "opened") }, -1)
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { l.note(conn, string(packet)) }, -1)
	h.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { l.note(conn, "closed") }, -1)
	return h, l
}

func (l *lives) note(conn *server.Conn, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[conn.GetID()] = append(l.all[conn.GetID()], what)
}

// check fails the test unless each life has one beginning, packets from 0 on in order, and one end. It returns how many packets.
func (l *lives) check(t *testing.T) (packets []int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, events := range l.all {
		n := len(events) - 2
		if !assert.GreaterOrEqual(t, n, 0, "%s: %v", id, events) {
			continue
		}
		want := []string{"opened"}
		for i := range n {
			want = append(want, strconv.Itoa(i))
		}
		assert.Equal(t, append(want, "closed"), events, id)
		packets = append(packets, n)
	}
	return packets
}

const lifePackets = 20

// sendLife writes the packets of a life at once.
func sendLife(p *conformance.Peer) {
	var all []byte
	for i := range lifePackets {
		all = append(all, p.Packet(text, []byte(strconv.Itoa(i)))...)
	}
	_, _ = p.Conn.Write(all) // the server may have had enough
}

// Each connection is opened, has its packets, and is closed, once and in this order, however it ends.
func TestEngineLives(t *testing.T) {
	type scene struct {
		opened  func(conn *server.Conn)
		receive func(conn *server.Conn, packet string)
		play    func(t *testing.T, p *conformance.Peer, h *host)
		packets int // -1: some
		err     error
		anyErr  bool
	}
	answer := func(code int) func(*testing.T, *conformance.Peer, *host) {
		return func(t *testing.T, p *conformance.Peer, _ *host) {
			sendLife(p)
			p.ExpectFarewell(code)
			p.Farewell()
			p.ExpectEnd()
		}
	}
	at := func(packet string, f func(conn *server.Conn)) func(*server.Conn, string) {
		return func(conn *server.Conn, got string) {
			if got == packet {
				f(conn)
			}
		}
	}
	oops := func(*server.Conn) { panic("on purpose") }
	for name, s := range map[string]scene{
		"the peer leaves in order": {packets: lifePackets, play: func(_ *testing.T, p *conformance.Peer, _ *host) { sendLife(p); p.Farewell(); p.ExpectEnd() }},
		"the peer leaves":          {packets: lifePackets, anyErr: true, play: func(_ *testing.T, p *conformance.Peer, _ *host) { sendLife(p); p.Cut() }},
		"the peer resets": {packets: -1, anyErr: true, play: func(t *testing.T, p *conformance.Peer, _ *host) {
			if tcp, ok := p.Conn.(*net.TCPConn); ok {
				require.NoError(t, tcp.SetLinger(0))
			}
			sendLife(p)
			p.Cut()
		}},
		"the peer resets at once": {packets: 0, anyErr: true, play: func(t *testing.T, p *conformance.Peer, _ *host) {
			if tcp, ok := p.Conn.(*net.TCPConn); ok {
				require.NoError(t, tcp.SetLinger(0))
			}
			p.Cut()
		}},
		"the peer says nothing": {packets: 0, play: func(_ *testing.T, p *conformance.Peer, _ *host) { p.Farewell(); p.ExpectEnd() }},
		"the peer sends too much": {packets: lifePackets, err: server.ErrPacketTooLarge, play: func(_ *testing.T, p *conformance.Peer, _ *host) {
			sendLife(p)
			p.Send(p.Packet(text, make([]byte, 1<<17)))
			p.ExpectFarewell(1009)
			p.Cut()
		}},
		"Close before the first packet": {packets: 0, play: func(_ *testing.T, p *conformance.Peer, h *host) {
			(<-h.opened).Close()
			p.ExpectFarewell(1000)
			p.Farewell()
			p.ExpectEnd()
		}},
		"Close in opened":      {opened: func(conn *server.Conn) { conn.Close() }, play: answer(1000)},
		"Close in receive":     {receive: at("5", func(conn *server.Conn) { conn.Close(errEnough); conn.Close() }), play: answer(1000), packets: 6, err: errEnough},
		"CloseWith in receive": {receive: at("5", func(conn *server.Conn) { conn.CloseWith(4001, "enough", errEnough) }), play: answer(4001), packets: 6, err: errEnough},
		"Abort in receive": {receive: at("5", func(conn *server.Conn) { conn.Abort(errEnough) }), packets: 6, err: errEnough,
			play: func(_ *testing.T, p *conformance.Peer, _ *host) { sendLife(p); p.ExpectEnd() }},
		"panic in opened":  {opened: oops, play: answer(1011), err: server.ErrHandlerPanic},
		"panic in receive": {receive: at("5", oops), play: answer(1011), packets: 6, err: server.ErrHandlerPanic},
		"panic in a callback": {packets: lifePackets, receive: at("5", func(conn *server.Conn) { conn.Write(nil, func(error) { panic("on purpose") }) }),
			play: func(_ *testing.T, p *conformance.Peer, _ *host) {
				sendLife(p)
				p.Expect(text, []byte{})
				p.Farewell()
				p.ExpectEnd()
			}},
		"Shutdown": {packets: lifePackets, err: server.ErrGoingAway, play: func(t *testing.T, p *conformance.Peer, h *host) {
			sendLife(p)
			for range lifePackets {
				h.next(t)
			}
			h.Shutdown()
			p.ExpectFarewell(1001)
			p.Cut()
		}},
	} {
		for mode, opt := range modes {
			for _, network := range networks {
				t.Run(fmt.Sprint(name, " ", mode, " ", network), func(t *testing.T) {
					h, l := lifeHost(network, opt)
					h.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
						if s.opened != nil {
							s.opened(conn)
						}
					})
					h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
						if s.receive != nil {
							s.receive(conn, string(packet))
						}
					})
					h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { panic("on purpose") }, 1) // which changes nothing
					h.start0(t)
					p := conformance.Dial(t, network, h.addr, "/")
					s.play(t, p, h)
					err := await(t, h.closed, "closed event").err
					h.Shutdown()
					require.NoError(t, await(t, h.ended, "end of Run"))
					if packets := l.check(t); assert.Len(t, packets, 1) && s.packets >= 0 {
						assert.Equal(t, s.packets, packets[0])
					}
					switch {
					case s.err != nil:
						assert.ErrorIs(t, err.(error), s.err)
					case !s.anyErr:
						assert.Nil(t, err)
					}
					stats := h.Stats()
					assert.EqualValues(t, 1, stats.Opened)
					assert.EqualValues(t, 1, stats.Closed)
				})
			}
		}
	}
}

// Shutdown while everybody connects: who was opened is closed, and nobody is left.
func TestEngineShutdownInAcceptStorm(t *testing.T) {
	for mode, opt := range modes {
		for _, network := range networks {
			t.Run(mode+" "+network, func(t *testing.T) {
				h, l := lifeHost(network, opt)
				h.start0(t)
				descriptors := openDescriptors(t)
				stop := make(chan struct{})
				var storm sync.WaitGroup
				for range 8 {
					storm.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								visit(network, h.addr)
							}
						}
					})
				}
				for range 40 {
					await(t, h.opened, "opened event")
				}
				h.Shutdown()
				require.NoError(t, await(t, h.ended, "end of Run"))
				close(stop)
				storm.Wait()
				assert.GreaterOrEqual(t, len(l.check(t)), 40)
				stats := h.Stats()
				assert.Equal(t, stats.Opened, stats.Closed)
				assert.Zero(t, h.GetOnlineCount())
				assert.Less(t, openDescriptors(t), descriptors, "the loops' and the listener's have gone")
			})
		}
	}
}

// visit connects, says something, and leaves, by a reset as often as not.
func visit(network, addr string) {
	var conn net.Conn
	switch network {
	case ws:
		socket, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/", nil)
		if err != nil {
			return
		}
		_ = socket.WriteMessage(text, []byte("0"))
		conn = socket.NetConn()
	case tcp, unix:
		var err error
		if conn, err = net.Dial(network, addr); err != nil {
			return
		}
		_, _ = conn.Write([]byte{0, 0, 0, 1, '0'})
	}
	if tcp, ok := conn.(*net.TCPConn); ok && conn.LocalAddr().(*net.TCPAddr).Port%2 == 0 {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
