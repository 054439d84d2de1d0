package server_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/server"
)

// The log tells of a handler that hangs while it does, with its event and connection.
func TestDeadlockDetect(t *testing.T) {
	block := func(d time.Duration) { <-time.After(d) }
	cases := map[string]func(h *host, d time.Duration){
		"ConnectionOpened": func(h *host, d time.Duration) {
			h.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { block(d) })
		},
		"ConnectionReceivePacket": func(h *host, d time.Duration) {
			h.RegConnectionReceivePacketEvent(func(*server.Server, *server.Conn, []byte) { block(d) })
		},
		"ConnectionClosed": func(h *host, d time.Duration) {
			h.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { block(d) }, -1)
		},
	}
	for event, register := range cases {
		for _, d := range []time.Duration{2 * time.Second, 500 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				l, logger := newLogs()
				h := newHost(tcp, logger, server.WithDeadlockDetect(time.Second))
				register(h, d)
				h.startMemory(t)
				begun := time.Now()
				p, conn := h.dial(t)
				go func() { p.Write(text, []byte("hello")); p.Cut() }()
				if d > time.Second {
					line := l.expect(t, slog.LevelWarn, "handler still running")
					assert.Equal(t, time.Second, time.Since(begun), "while it runs")
					assert.Contains(t, line, "event="+event)
					assert.Contains(t, line, "conn="+conn.GetID())
				}
				h.end(t)
				synctest.Wait()
				assert.Empty(t, l.lines)
			})
		}
	}
}

func TestLowMessageDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logger := newLogs()
		h := newHost(tcp, logger, server.WithLowMessageDuration(time.Second))
		h.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, packet []byte) {
			if string(packet) == "slow" {
				<-time.After(3 * time.Second)
			}
		})
		h.startMemory(t)
		p, conn := h.dial(t)
		p.Write(text, []byte("fast"))
		p.Write(text, []byte("slow"))
		line := l.expect(t, slog.LevelWarn, "slow handler")
		assert.Contains(t, line, "event=ConnectionReceivePacket")
		assert.Contains(t, line, "conn="+conn.GetID())
		assert.Contains(t, line, "took=3s")
		p.Cut()
		h.end(t)
		assert.Empty(t, l.lines)
	})
}

func TestPacketWarnSize(t *testing.T) {
	l, logger := newLogs()
	h := serve(t, tcp, logger, server.WithPacketWarnSize(100))
	p, conn := h.dial(t)
	p.Write(binary, make([]byte, 100))
	p.Write(binary, make([]byte, 101))
	line := l.expect(t, slog.LevelWarn, "large packet received")
	assert.Contains(t, line, "bytes=101")
	assert.Contains(t, line, "conn="+conn.GetID())
	conn.Write(make([]byte, 100))
	conn.Write(make([]byte, 102))
	assert.Contains(t, l.expect(t, slog.LevelWarn, "large packet written"), "bytes=102")
	assert.Empty(t, l.lines)
	assert.Equal(t, "", h.next(t).data[100:])
}
