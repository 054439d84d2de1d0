package server_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// Who meets an upgrader that panics is refused, and no longer counts in the limits.
func TestPanickingUpgraderRefuses(t *testing.T) {
	opts := []server.Option{
		server.WithWebsocketUpgrade(&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { panic("no such origin") }}),
		server.WithMaxConnections(2), server.WithMaxConnectionsPerAddress(1), server.WithMaxConnectionsPerPrefix(1),
	}
	for _, mounted := range []bool{false, true} {
		h := newHost(ws, opts...)
		if mounted {
			h.begin(t, t.Context())
			web := httptest.NewServer(h.Server)
			t.Cleanup(web.Close)
			h.addr = web.Listener.Addr().String()
		} else {
			h.begin(t, t.Context(), "127.0.0.1:0")
		}
		for range 3 {
			assert.Equal(t, http.StatusInternalServerError, upgrade(t, h, "/"))
			countedOut(t, h)
		}
		assert.EqualValues(t, 3, h.Stats().HandlerPanics)
	}
}

// A request that comes to nothing ends its connection: nobody stays by asking for what there isn't, neither one too many.
func TestNobodyStaysWithoutUpgrade(t *testing.T) {
	h := newHost(ws, server.WithMaxConnections(2))
	h.begin(t, t.Context(), "127.0.0.1:0/play")
	ask := func() *http.Response {
		conn := conformance.DialRaw(t, ws, h.addr)
		_, err := io.WriteString(conn, "GET /elsewhere HTTP/1.1\r\nHost: game.test\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.True(t, resp.Close)
		return resp
	}
	assert.Equal(t, http.StatusNotFound, ask().StatusCode)
	countedOut(t, h)

	conformance.Dial(t, ws, h.addr, "/play")
	slow := conformance.DialRaw(t, ws, h.addr)
	require.Eventually(t, func() bool { present, _, _ := server.Counted(h.Server); return present == 2 }, patience, tick)
	resp := ask()
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "one too many, wherever it wants to go")
	assert.Equal(t, "5", resp.Header.Get("Retry-After"))
	assert.EqualValues(t, 1, h.Stats().Refusals[server.RefusedTotal])
	slow.Close()
}
