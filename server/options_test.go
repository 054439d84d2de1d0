package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/server"
)

func TestBadOptions(t *testing.T) {
	for name, opt := range map[string]server.Option{
		"shutdown timeout 0s":           server.WithShutdownTimeout(0),
		"write timeout -1s":             server.WithWriteTimeout(-time.Second),
		"largest packet of 0 bytes":     server.WithMaxPacketSize(0),
		"no framer":                     server.WithFramer(server.LengthFramer(3, nil)),
		"no transport":                  server.WithTransport(nil),
		"websocket message type 9":      server.WithWebsocketMessageType(text, server.WebsocketMessageTypePing),
		"compression level 10: -2 to 9": server.WithWebsocketCompression(10),
		"compression level -3: -2 to 9": server.WithWebsocketCompression(-3),
	} {
		for _, network := range networks {
			err := server.New(server.Network(network), opt, server.WithShutdownTimeout(time.Second)).Run(address(t, network))
			assert.ErrorIs(t, err, server.ErrBadOption, name)
			assert.ErrorContains(t, err, name)
		}
	}
	err := server.New(server.NetworkTcp, server.WithWriteTimeout(0), server.WithMaxPacketSize(-1)).Run("127.0.0.1:0")
	assert.ErrorContains(t, err, "write timeout", "the first one")
}

// A link carries a client's largest packet behind a gateway's header.
func TestWithLinks(t *testing.T) {
	const limit, header = 1000, 64
	for _, network := range networks {
		h := serve(t, network, server.WithLinks(), server.WithMaxPacketSize(limit)).echo()
		p, conn := h.dial(t)
		p.Write(binary, make([]byte, limit+header))
		p.Expect(binary, make([]byte, limit+header))
		for range 2 * server.DefaultConnWriteBufferSize { // more than is queued for a client
			conn.Write(make([]byte, 500))
		}
		assert.False(t, conn.IsClosed())
		go p.Write(binary, make([]byte, limit+header+1))
		p.ExpectFarewell(1009)
		p.Cut()
		assert.ErrorContains(t, h.endError(t), "1064")
	}
}

// Zero means the default where the documentation says so, and nil options are no options.
func TestDefaultOptions(t *testing.T) {
	for _, network := range networks {
		h := serve(t, network, nil, server.WithPacketWarnSize(0), server.WithConnWriteBufferSize(0), server.WithConnWriteBufferBytes(0),
			server.WithWebsocketReadDeadline(0), server.WithLimitLife(0), server.WithDeadlockDetect(0), server.WithLowMessageDuration(0),
			server.WithWebsocketMessageType(), server.WithLogger(nil), server.WithWebsocketConnInitializer(nil)).echo()
		p, _ := h.dial(t)
		p.Write(text, make([]byte, server.DefaultMaxPacketSize))
		p.Expect(text, make([]byte, server.DefaultMaxPacketSize))
		p.Write(text, make([]byte, server.DefaultMaxPacketSize+1))
		p.ExpectFarewell(1009)
		p.Cut()
		assert.ErrorIs(t, h.endError(t), server.ErrPacketTooLarge)
	}
}
