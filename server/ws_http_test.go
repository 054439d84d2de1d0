package server_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/wsio"
	"github.com/minotaur-gateway/gateway/server"
)

// What else than an upgrade comes to a gateway's port is answered in HTTP's terms, once: the connection is not kept.
func TestOddRequests(t *testing.T) {
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	const upgrade = "Host: game.test\r\nUpgrade: websocket\r\n" + key
	h := serve(t, ws)
	for _, test := range []struct {
		name, say string
		status    int
		header    string // of the answer
		value     string
	}{
		{"as Firefox asks", "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" + upgrade + "\r\n", 101, "Sec-Websocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"another version", "GET / HTTP/1.1\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n" + upgrade + "\r\n", 426, "Sec-Websocket-Version", "13"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + upgrade + "\r\n", 400, "Connection", "close"},
		{"a page", "GET / HTTP/1.1\r\nHost: game.test\r\nConnection: keep-alive\r\n\r\n", 400, "Connection", "close"},
		{"a large header", "GET / HTTP/1.1\r\nHost: game.test\r\nCookie: " + strings.Repeat("c", 64<<10) + "\r\n\r\n", 431, "Connection", "close"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "Connection", "close"},
		{"a body that never comes", "POST / HTTP/1.1\r\nHost: game.test\r\nContent-Length: 1000000\r\n\r\nx", 400, "Connection", "close"},
		{"many at once", strings.Repeat("GET / HTTP/1.1\r\nHost: game.test\r\n\r\n", 100), 400, "Connection", "close"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := conformance.DialRaw(t, ws, h.addr)
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err := io.WriteString(conn, test.say)
			require.NoError(t, err)
			r := bufio.NewReader(conn)
			answer, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			assert.Equal(t, test.status, answer.StatusCode)
			if test.header == "Connection" {
				assert.True(t, answer.Close)
			} else {
				assert.Equal(t, test.value, answer.Header.Get(test.header))
			}
			if test.status == 101 {
				await(t, h.opened, "opened event") // which the answer overtakes
				return
			}
			_, err = io.Copy(io.Discard, answer.Body)
			require.NoError(t, err)
			_, err = http.ReadResponse(r, nil)
			assert.Error(t, err, "one answer, and the end")
		})
	}
	assert.EqualValues(t, 1, h.Stats().Opened)
}

// A client whose host is gone answers no pings, and ends no connection: both engines cut it at the read deadline.
func TestHalfOpenWebsocketIsCut(t *testing.T) {
	for engine, on := range engines() {
		t.Run(engine, func(t *testing.T) {
			const deadline = 400 * time.Millisecond
			h := serve(t, ws, on, server.WithWebsocketReadDeadline(deadline))
			begun := time.Now()
			p, _ := h.dial(t)
			assert.ErrorIs(t, h.endError(t), wsio.ErrReadTimeout)
			assert.GreaterOrEqual(t, time.Since(begun), deadline)
			assert.Less(t, time.Since(begun), deadline+2*time.Second, "of a machine that has other things to do")
			kind, _, err := p.Read()
			require.NoError(t, err)
			assert.Equal(t, conformance.Ping, kind, "it was asked")
		})
	}
}
