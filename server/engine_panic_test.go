//go:build linux && !noloops

package server_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// explosive is a framer of one's own that panics on some packets.
type explosive struct{ server.Framer }

func (f explosive) Append(dst, packet []byte) ([]byte, error) {
	if bytes.Equal(packet, []byte("out")) {
		panic("on purpose")
	}
	return f.Framer.Append(dst, packet)
}

func (f explosive) Next(buf []byte, limit int) ([]byte, int, error) {
	packet, size, err := f.Framer.Next(buf, limit)
	if bytes.Equal(packet, []byte("in")) {
		panic("on purpose")
	}
	return packet, size, err
}

// Whatever panics, it costs its connection: the others of the same loop go on, and Run ends.
func TestEnginePanicCostsOneConnection(t *testing.T) {
	for name, arm := range map[string]func(h *host){
		"opened": func(h *host) {
			var opened atomic.Int64
			h.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) {
				if opened.Add(1) == 2 {
					panic("on purpose")
				}
			}, 1)
		},
		"receive": func(h *host) {
			h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
				if string(packet) == "now" {
					panic("on purpose")
				}
			}, -1)
		},
		"write before": func(h *host) {
			h.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, _ *server.Conn, packet []byte) []byte {
				if string(packet) == "now" {
					panic("on purpose")
				}
				return packet
			})
		},
		"framer, in":  func(*host) {},
		"framer, out": func(*host) {},
	} {
		for mode, opt := range modes {
			t.Run(name+" "+mode, func(t *testing.T) {
				h := newHost(tcp, onLoops, opt, server.WithFramer(explosive{server.LengthFramer(4, nil)})).echo()
				arm(h)
				h.start0(t)
				other, _ := h.dial(t)
				p := conformance.Dial(t, tcp, h.addr, "/")
				data := map[string]string{"framer, in": "in", "framer, out": "out"}[name]
				if data == "" {
					data = "now"
				}
				_, _ = p.Conn.Write(p.Packet(binary, []byte(data)))
				p.ExpectEnd()
				p.Cut()
				assert.ErrorIs(t, h.endError(t), server.ErrHandlerPanic)
				other.Write(binary, []byte("unaffected"))
				other.Expect(binary, []byte("unaffected"))
				h.Shutdown()
				assert.NoError(t, endOfRun(t, h, other))
				assert.EqualValues(t, 1, h.Stats().HandlerPanics)
				h.end(t)
				assert.Empty(t, h.closed)
			})
		}
	}
}

// Panics in callbacks and in closed handlers cost nothing at all.
func TestEnginePanicsThatCostNothing(t *testing.T) {
	for _, network := range networks {
		h := newHost(network, onLoops).echo()
		h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { panic("on purpose") }, -1)
		h.start0(t)
		other, _ := h.dial(t)
		p, conn := h.dial(t)
		conn.Write([]byte("news"), func(error) { panic("on purpose") })
		p.Expect(text, []byte("news"))
		p.Write(text, []byte("thanks"))
		p.Expect(text, []byte("thanks"))
		p.Farewell()
		p.ExpectEnd()
		assert.Nil(t, h.end(t))
		other.Write(text, []byte("unaffected"))
		other.Expect(text, []byte("unaffected"))
		h.Shutdown()
		assert.NoError(t, endOfRun(t, h, other))
		assert.EqualValues(t, 3, h.Stats().HandlerPanics)
	}
}
