package server_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// What gathers while a burst is handled is no sign of a slow client, though it is more than a queue's bound: the kernel has room for
// all of it.
func TestEchoBurst(t *testing.T) {
	const packets = 2 * server.DefaultConnWriteBufferSize
	for bound, opt := range map[string]server.Option{"packets": nil, "bytes": server.WithConnWriteBufferBytes(8 << 10)} {
		for engine, on := range engines() {
			for _, network := range []string{ws, tcp} {
				t.Run(bound+" "+engine+" "+network, func(t *testing.T) {
					h := serve(t, network, on, opt).echo()
					p, _ := h.dial(t)
					p.Send(bytes.Repeat(p.Packet(text, []byte("twelve bytes")), packets))
					for range packets {
						p.Expect(text, []byte("twelve bytes"))
					}
					assert.Zero(t, h.Stats().SlowConsumers)
				})
			}
		}
	}
}

// Pongs that gather leave room for an answer.
func TestPingsThenAMessage(t *testing.T) {
	for engine, on := range engines() {
		t.Run(engine, func(t *testing.T) {
			h := serve(t, ws, on).echo()
			p, _ := h.dial(t)
			burst := bytes.Repeat(p.Frame(0x80|conformance.Ping, nil), server.DefaultConnWriteBufferSize+100)
			p.Send(append(burst, p.Packet(text, []byte("hello"))...))
			kind, data := conformance.Pong, []byte(nil)
			for kind == conformance.Pong {
				var err error
				kind, data, err = p.Read()
				assert.NoError(t, err)
			}
			assert.Equal(t, text, kind)
			assert.Equal(t, "hello", string(data))
			assert.Zero(t, h.Stats().SlowConsumers)
		})
	}
}
