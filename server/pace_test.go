package server_test

import (
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/server"
)

// A client that sends more than it may is closed, and what it sent before that is handled.
func TestRates(t *testing.T) {
	for name, rate := range map[string]server.Option{
		"packets": server.WithPacketRate(1e-6, 3),
		"bytes":   paced(100),
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, network string, engine server.Option) {
				h := serve(t, network, engine, rate)
				p, _ := h.dial(t)
				for range 5 { // of 30 bytes
					p.Write(binary, []byte("a hundred bytes would be three"))
				}
				p.ExpectFarewell(1008)
				p.Cut()
				for range 3 {
					h.next(t)
				}
				err := h.endError(t)
				assert.ErrorIs(t, err, server.ErrRateLimited)
				assert.ErrorIs(t, err, net.ErrClosed)
				assert.Empty(t, h.packets)
				stats := h.Stats()
				assert.EqualValues(t, 1, stats.RateLimited)
				assert.EqualValues(t, 3+stats.PacketsDiscarded, stats.PacketsReceived)
			})
		})
	}
}

// paced lets a client send burst bytes, once.
func paced(burst int) server.Option {
	return func(s *server.Server) {
		server.WithByteRate(1e-6, burst)(s)
		server.WithMaxPacketSize(burst)(s)
	}
}

// Pings are packets too, or a client could flood with them.
func TestRateOfPings(t *testing.T) {
	readers := engines()
	readers["compression"] = server.WithWebsocketCompression(1)
	for name, reader := range readers {
		t.Run(name, func(t *testing.T) {
			h := serve(t, ws, reader, server.WithPacketRate(1e-6, 3))
			p, _ := h.dial(t)
			for range 4 {
				p.Send(p.Frame(0x89, nil))
			}
			for range 3 {
				first, _ := p.ReadRaw()
				assert.EqualValues(t, 0x8a, first)
			}
			p.ExpectFarewell(1008)
			p.Cut()
			assert.ErrorIs(t, h.endError(t), server.ErrRateLimited)
			assert.EqualValues(t, 1, h.Stats().RateLimited)
		})
	}
}

// Who keeps to the rate goes on for ever, and has the burst again after a pause.
func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, tcp, server.WithPacketRate(10, 5))
		p, _ := h.dial(t)
		send := func(n int) {
			for i := range n {
				p.Write(none, []byte(strconv.Itoa(i)))
				<-h.packets
			}
		}
		send(5)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			send(1)
		}
		time.Sleep(500 * time.Millisecond)
		send(5)
		p.Write(none, []byte("one too many"))
		assert.ErrorIs(t, h.endError(t), server.ErrRateLimited)
	})
}

// Each network tells how large a packet was, and how large it may be, and counts it.
func TestPacketsTooLargeAreCounted(t *testing.T) {
	everywhere(t, func(t *testing.T, network string, engine server.Option) {
		h := serve(t, network, engine, server.WithMaxPacketSize(1000))
		p, _ := h.dial(t)
		p.Write(binary, make([]byte, 1000))
		h.next(t)
		p.Write(binary, make([]byte, 1001))
		p.ExpectFarewell(1009)
		p.Cut()
		err := h.endError(t)
		assert.ErrorIs(t, err, server.ErrPacketTooLarge)
		assert.ErrorContains(t, err, "1001")
		assert.ErrorContains(t, err, "1000 ")
		assert.EqualValues(t, 1, h.Stats().PacketsTooLarge)
	})
}
