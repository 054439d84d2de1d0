package server_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// upgrade asks h for a WebSocket and returns the status of the answer.
func upgrade(t *testing.T, h *host, path string, header ...string) int {
	t.Helper()
	p := conformance.NewPeer(t, conformance.DialRaw(t, ws, h.addr), ws)
	return p.Upgrade(path, header...).StatusCode
}

func TestWebsocketOrigin(t *testing.T) {
	cases := []struct {
		name   string
		opts   []server.Option
		origin string
		status int
	}{
		{"none", nil, "", 101},
		{"own", nil, "http://game.test", 101},
		{"another", nil, "http://evil.test", 403},
		{"own host, other port", nil, "http://game.test:81", 403},
		{"listed", []server.Option{server.WithWebsocketOrigins("https://a.test", "https://b.test")}, "https://B.test", 101},
		{"not listed", []server.Option{server.WithWebsocketOrigins("https://a.test")}, "https://evil.test", 403},
		{"listed with another scheme", []server.Option{server.WithWebsocketOrigins("https://a.test")}, "http://a.test", 403},
		{"own beside a list", []server.Option{server.WithWebsocketOrigins("https://a.test")}, "http://game.test", 101},
		{"none beside a list", []server.Option{server.WithWebsocketOrigins("https://a.test")}, "", 101},
		{"any", []server.Option{server.WithWebsocketOrigins("*")}, "http://evil.test", 101},
		{"no URL", []server.Option{server.WithWebsocketOrigins("https://a.test")}, "%zz", 403},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, ws, tt.opts...)
			var header []string
			if tt.origin != "" {
				header = []string{"Origin: " + tt.origin}
			}
			assert.Equal(t, tt.status, upgrade(t, h, "/", header...))
			if tt.status != 101 {
				assert.Zero(t, h.Stats().Opened)
			}
		})
	}
}

func TestWebsocketPath(t *testing.T) {
	h := newHost(ws)
	h.addr = gwtestServe(t, h, "127.0.0.1:0/ws/v1")
	assert.Equal(t, 101, upgrade(t, h, "/ws/v1"))
	assert.Equal(t, 101, upgrade(t, h, "/ws/v1?token=1"))
	for _, path := range []string{"/", "/ws", "/ws/v1/", "/ws/v11"} {
		assert.Equal(t, 404, upgrade(t, h, path), path)
	}
	anywhere := serve(t, ws)
	assert.Equal(t, 101, upgrade(t, anywhere, "/any/where"))
}

func TestWebsocketPlainRequest(t *testing.T) {
	h := serve(t, ws)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + h.addr + "/")
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func TestWebsocketUpgrade(t *testing.T) {
	h := serve(t, ws, server.WithWebsocketUpgrade(&websocket.Upgrader{
		Subprotocols: []string{"chat.v2"}, CheckOrigin: func(r *http.Request) bool { return r.Header.Get("X-Pass") == "yes" },
	}))
	assert.Equal(t, 403, upgrade(t, h, "/"), "the upgrader's own check")
	p := conformance.NewPeer(t, conformance.DialRaw(t, ws, h.addr), ws)
	resp := p.Upgrade("/", "X-Pass: yes", "Sec-WebSocket-Protocol: chat.v1, chat.v2", "Origin: http://evil.test")
	assert.Equal(t, "chat.v2", resp.Header.Get("Sec-WebSocket-Protocol"))

	assert.Equal(t, 403, upgrade(t, serve(t, ws, server.WithWebsocketUpgrade(nil)), "/", "Origin: http://evil.test"), "nil is the default")
}

func TestWebsocketConnInitializer(t *testing.T) {
	l, logger := newLogs()
	h := serve(t, ws, logger, server.WithWebsocketConnInitializer(func(w http.ResponseWriter, r *http.Request, conn *websocket.Conn) error {
		assert.NotNil(t, w)
		switch r.URL.Query().Get("token") {
		case "good":
			return conn.WriteMessage(websocket.TextMessage, []byte("welcome"))
		case "panic":
			panic("on purpose")
		}
		return errors.New("no token")
	}))
	p := conformance.Dial(t, ws, h.addr, "/?token=good")
	p.Expect(text, []byte("welcome"))
	await(t, h.opened, "opened event")
	for _, token := range []string{"bad", "panic"} {
		p = conformance.Dial(t, ws, h.addr, "/?token="+token)
		p.ExpectEnd()
	}
	l.expect(t, 8, "websocket initializer panicked")
	assert.EqualValues(t, 1, h.Stats().Opened)
	assert.Equal(t, 1, h.GetOnlineCount())
	assert.EqualValues(t, 1, h.Stats().HandlerPanics)
}

// An initializer that hangs is the only thing that a shutdown waits for in vain.
func TestWebsocketInitializerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		h := newHost(ws, server.WithWebsocketConnInitializer(func(_ http.ResponseWriter, r *http.Request, _ *websocket.Conn) error {
			if r.URL.Path == "/hang" {
				close(begun)
				<-release
			}
			return nil
		}))
		h.pipes = newPipeListener()
		server.Over(h.Server, h.pipes)
		h.start0(t)
		good, _ := h.dial(t)
		hanging := conformance.NewPeer(t, h.pipes.dial(), ws)
		require.Equal(t, 101, hanging.Upgrade("/hang").StatusCode)
		<-begun
		h.Shutdown()
		good.ExpectFarewell(1001)
		good.Farewell()
		assert.Equal(t, server.ErrGoingAway, h.end(t), "the others don't wait for it")
		assert.ErrorIs(t, <-h.ended, server.ErrShutdownTimeout)
		close(release)
		hanging.ExpectEnd()
		assert.EqualValues(t, 1, h.Stats().ConnectionsRefused)
	})
}

func TestWebsocketMessageType(t *testing.T) {
	for accepted, refused := range map[int]int{text: binary, binary: text} {
		h := serve(t, ws, server.WithWebsocketMessageType(accepted))
		p, _ := h.dial(t)
		p.Write(accepted, []byte("fine"))
		assert.Equal(t, "fine", h.next(t).data)
		p.Write(refused, []byte("not fine"))
		p.ExpectFarewell(1003)
		p.Cut()
		assert.ErrorIs(t, h.endError(t), server.ErrMessageType)
		assert.Empty(t, h.packets)
	}
	h := serve(t, ws, server.WithWebsocketMessageType(text, binary))
	p, _ := h.dial(t)
	p.Write(text, []byte("a"))
	p.Write(binary, []byte("b"))
	assert.Equal(t, "a", h.next(t).data)
	assert.Equal(t, "b", h.next(t).data)
}

const deflateExtension = "Sec-WebSocket-Extensions: permessage-deflate"

// deflated is data as RFC 7692, section 7.2.1 puts it into a message.
func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xFF, 0xFF})
}

func TestWebsocketCompression(t *testing.T) {
	const rsv1 = 0x40
	plain := bytes.Repeat([]byte("very much the same "), 500)
	cases := []struct {
		name            string
		opts            []server.Option
		agreed, written bool
	}{
		{"off", nil, false, false},
		{"read only", []server.Option{server.WithWebsocketCompression(flate.BestCompression)}, true, false},
		{"both ways", []server.Option{server.WithWebsocketCompression(flate.BestSpeed), server.WithWebsocketWriteCompression()}, true, true},
		{"default level", []server.Option{server.WithWebsocketWriteCompression()}, true, true},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, ws, tt.opts...).echo()
			p := conformance.NewPeer(t, conformance.DialRaw(t, ws, h.addr), ws)
			resp := p.Upgrade("/", deflateExtension)
			require.Equal(t, 101, resp.StatusCode)
			assert.Equal(t, tt.agreed, resp.Header.Get("Sec-WebSocket-Extensions") != "")
			if !tt.agreed {
				p.Send(p.Frame(0x80|rsv1|text, deflated(t, plain)))
				p.ExpectFarewell(1002)
				return
			}
			p.Send(p.Frame(0x80|rsv1|text, deflated(t, plain)))
			assert.Equal(t, string(plain), h.next(t).data)
			first, data := p.ReadRaw()
			if !tt.written {
				assert.EqualValues(t, 0x80|text, first)
				assert.Equal(t, plain, data)
				return
			}
			assert.EqualValues(t, 0x80|rsv1|text, first)
			assert.Less(t, len(data), len(plain)/4)
			tail := []byte{0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF}
			inflated, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(data), bytes.NewReader(tail))))
			require.NoError(t, err)
			assert.Equal(t, plain, inflated)
		})
	}
}

// A few KiB that inflate to far more than a packet may have end the connection, and don't get inflated.
func TestWebsocketInflationBomb(t *testing.T) {
	h := serve(t, ws, server.WithWebsocketCompression(1), server.WithMaxPacketSize(1<<16))
	bomb := deflated(t, make([]byte, 32<<20)) // which takes its time, and the peer has a deadline
	require.Less(t, len(bomb), 1<<16)
	p := conformance.Dial(t, ws, h.addr, "/", deflateExtension)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.Send(p.Frame(0x80|0x40|binary, bomb))
	p.ExpectFarewell(1009)
	p.Cut()
	err := h.endError(t)
	assert.ErrorIs(t, err, server.ErrPacketTooLarge)
	assert.ErrorContains(t, err, "65536")
	assert.Empty(t, h.packets)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "bytes allocated")
}

func TestWebsocketFrames(t *testing.T) {
	t.Run("fragments with a ping between", func(t *testing.T) {
		h := serve(t, ws).echo()
		p, _ := h.dial(t)
		p.Send(p.Frame(text, []byte("one ")))
		p.Send(p.Frame(0x80|conformance.Ping, []byte("are you there")))
		p.Send(p.Frame(0, []byte("whole ")))
		p.Send(p.Frame(0x80, []byte("packet")))
		kind, data, err := p.Read()
		require.NoError(t, err)
		assert.Equal(t, conformance.Pong, kind)
		assert.Equal(t, "are you there", string(data))
		p.Expect(text, []byte("one whole packet"))
	})
	for name, bytes := range map[string][]byte{
		"not masked":       {0x82, 0x01, 'a'},
		"reserved opcode":  {0x83, 0x80, 0, 0, 0, 0},
		"stray fragment":   {0x80, 0x80, 0, 0, 0, 0},
		"fragmented ping":  {0x09, 0x80, 0, 0, 0, 0},
		"reserved bit set": {0xC2, 0x80, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, ws)
			p, _ := h.dial(t)
			p.Send(bytes)
			p.ExpectFarewell(1002)
			h.endError(t)
		})
	}
	t.Run("lost without a close frame", func(t *testing.T) {
		h := serve(t, ws)
		p, _ := h.dial(t)
		p.Cut()
		h.endError(t)
	})
}
