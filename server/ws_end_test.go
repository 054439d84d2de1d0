package server_test

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/wsio"
	"github.com/minotaur-gateway/gateway/server"
)

// A client that leaves in order while it is written to has an orderly end.
func TestWebsocketFarewellWhileWriting(t *testing.T) {
	for range 20 {
		h := serve(t, ws)
		p, conn := h.dial(t)
		stop := make(chan struct{})
		results := make(chan error, 1)
		go func() {
			for {
				result := make(chan error, 1)
				conn.Write([]byte("news"), func(err error) { result <- err })
				if err := <-result; err != nil {
					results <- err
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		p.Expect(text, []byte("news"))
		p.Farewell()
		p.ExpectFarewell(1000)
		assert.ErrorIs(t, await(t, results, "callback"), server.ErrConnClosed)
		require.Nil(t, h.end(t))
		close(stop)
	}
}

func TestWebsocketPing(t *testing.T) {
	for _, deadline := range []time.Duration{0, 8 * time.Second} { // 0: the default
		synctest.Test(t, func(t *testing.T) {
			h := serveMemory(t, ws, server.WithWebsocketReadDeadline(deadline))
			if deadline == 0 {
				deadline = server.DefaultWebsocketReadDeadline
			}
			p, conn := h.dial(t)
			begun, pings := time.Now(), 0
			for time.Since(begun) < 10*deadline { // an idle client that lives
				kind, data, err := p.Read()
				require.NoError(t, err)
				require.Equal(t, conformance.Ping, kind)
				p.Send(p.Frame(0x80|conformance.Pong, data))
				pings++
			}
			assert.GreaterOrEqual(t, pings, 10)
			assert.LessOrEqual(t, pings, 21, "a ping each half of the deadline")
			assert.False(t, conn.IsClosed())

			begun = time.Now()
			for { // and one that is silent
				if _, _, err := p.Read(); err != nil {
					break
				}
			}
			assert.Equal(t, deadline, time.Since(begun))
			assert.ErrorIs(t, h.endError(t), wsio.ErrReadTimeout)
		})
	}
}

// A client that talks needs no pings.
func TestWebsocketNoPingWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, ws).echo()
		p, _ := h.dial(t)
		for range 60 {
			<-time.After(5 * time.Second)
			p.Write(text, []byte("tick"))
			p.Expect(text, []byte("tick"))
		}
	})
}

// A packet that is never completed ends the connection at the deadline, pongs or not.
func TestWebsocketUnfinishedPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, ws)
		p, _ := h.dial(t)
		p.Send(p.Frame(text, []byte("to be continued")))
		begun := time.Now()
		for {
			kind, data, err := p.Read()
			if err != nil {
				break
			}
			require.Equal(t, conformance.Ping, kind)
			p.Send(p.Frame(0x80|conformance.Pong, data))
		}
		assert.LessOrEqual(t, time.Since(begun), server.DefaultWebsocketReadDeadline)
		assert.ErrorIs(t, h.endError(t), wsio.ErrReadTimeout)
	})
}

// A request that comes in drop by drop is given up after the handshake timeout.
func TestWebsocketSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, ws)
		conn := h.pipes.dial()
		defer conn.Close()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		assert.InDelta(t, server.HandshakeTimeout, drip(conn), float64(200*time.Millisecond))

		deaf := h.pipes.dial() // doesn't read the answer either
		defer deaf.Close()
		assert.LessOrEqual(t, drip(deaf), 2*server.HandshakeTimeout)
		assert.Zero(t, h.Stats().Opened)
	})
}

// drip writes a request byte by byte until the server has had enough, and returns how long that took.
func drip(conn net.Conn) time.Duration {
	begun := time.Now()
	for {
		if _, err := conn.Write([]byte("G")); err != nil {
			return time.Since(begun)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// A peer that doesn't answer the close frame is cut off.
func TestWebsocketFarewellUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, ws)
		p, conn := h.dial(t)
		begun := time.Now()
		conn.Close()
		p.ExpectFarewell(1000)
		assert.Nil(t, h.end(t))
		assert.Equal(t, server.LingerTimeout, time.Since(begun))
	})
}
