package server_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// A connection's context ends with it, whoever ends it, and tells why.
func TestContext(t *testing.T) {
	reason := errors.New("reason")
	for name, engine := range engines() {
		for _, tt := range []struct {
			name string
			end  func(h *host, p *conformance.Peer, conn *server.Conn)
			want error
		}{
			{"the client ends", func(_ *host, p *conformance.Peer, _ *server.Conn) { p.Farewell() }, server.ErrConnClosed},
			{"Close", func(_ *host, _ *conformance.Peer, conn *server.Conn) { conn.Close() }, server.ErrConnClosed},
			{"Close with a reason", func(_ *host, _ *conformance.Peer, conn *server.Conn) { conn.Close(reason) }, reason},
			{"Shutdown", func(h *host, _ *conformance.Peer, _ *server.Conn) { h.Shutdown() }, server.ErrGoingAway},
			{"a broken rule", func(_ *host, p *conformance.Peer, _ *server.Conn) { p.Send(p.Packet(binary, make([]byte, 1<<17))) }, server.ErrPacketTooLarge},
		} {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				h := serve(t, ws, engine)
				closing := make(chan error, 1)
				h.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { closing <- conn.Context().Err() }, -1)
				p, conn := h.dial(t)
				ctx := conn.Context()
				require.NoError(t, ctx.Err())
				assert.Same(t, ctx, conn.View().Context(), "all views have the same one")
				tt.end(h, p, conn)
				await(t, ctx.Done(), "end of the context")
				assert.ErrorIs(t, context.Cause(ctx), tt.want)
				p.Cut()
				assert.ErrorIs(t, await(t, closing, "closed event"), context.Canceled, "before the closed handlers")
				assert.ErrorIs(t, conn.Context().Err(), context.Canceled)
			})
		}
	}
}

func TestContextOfOneThatHasEnded(t *testing.T) {
	h := serve(t, tcp)
	p, conn := h.dial(t)
	p.Farewell()
	h.end(t)
	assert.ErrorIs(t, context.Cause(conn.Context()), server.ErrConnClosed)
}
