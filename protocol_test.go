package gateway_test

import (
	"encoding/hex"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// The sessions that PROTOCOL.md shows byte by byte are what is really on a link: "> " from the gateway, "< " from the backend,
// without the random fields.
func TestProtocolDump(t *testing.T) {
	said := append(recordOneSession(t), recordOneMove(t)...)
	var shown []string
	for line := range strings.Lines(protocolText(t)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "> ") && strings.Contains(line, "de ad be ef") || strings.HasPrefix(line, "< ") {
			line, _, _ = strings.Cut(line, "   ") // what follows explains
			shown = append(shown, strings.TrimSpace(line))
		}
	}
	assert.Equal(t, said, shown)
}

// The proof that PROTOCOL.md shows is that of the HELLO and the WELCOME before it.
func TestProtocolProof(t *testing.T) {
	shown := map[string][]byte{}
	for line := range strings.Lines(protocolText(t)) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), ":   "); ok {
			data, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), " ", ""))
			require.NoError(t, err, name)
			shown[name] = data
		}
	}
	hello, welcome := shown["HELLO's body"], shown["WELCOME's body"]
	require.NotEmpty(t, hello)
	require.Greater(t, len(welcome), 32)
	assert.Equal(t, secretA, shown["secret"])
	assert.Equal(t, keyIDOf(secretA), shown["its key id"])
	assert.Equal(t, keyIDOf(secretA), hello[len(hello)-8:])
	assert.Equal(t, proofOf(secretA, "backend", hello, welcome), welcome[len(welcome)-32:])
	assert.Equal(t, append([]byte{32}, proofOf(secretA, "gateway", hello, welcome)...), shown["AUTH's body"])
}

func protocolText(t *testing.T) string {
	doc, err := os.ReadFile("PROTOCOL.md")
	require.NoError(t, err)
	return string(doc)
}

// recorder writes down what its relay carries.
type recorder struct {
	mu    sync.Mutex // guards the rest
	said  []string
	pings []string // the first exchange, which comes when it comes
}

func (r *recorder) note(from string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := 11 // behind the header and the type
	switch {
	case data[10] == hello && from == ">":
		at += 2
	case data[10] == welcome && from == "<":
		at++
	default:
		at = len(data)
	}
	text := from
	for i, b := range data {
		switch {
		case i < at || i >= at+48:
			text += " " + hex.EncodeToString([]byte{b})
		case i == at: // instance and nonce
			text += " (48 bytes)"
		}
	}
	if pingOrPong := data[10] == ping || data[10] == pong; pingOrPong && getAddress(data) == "0.0.0.0:0" {
		if len(r.pings) < 2 {
			r.pings = append(r.pings, text)
		}
		return
	}
	r.said = append(r.said, text)
}

// forget drops what was written down so far.
func (r *recorder) forget() {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = nil
}

// relay carries the links of a gateway from "relay" to the backend at "a".
func (r *recorder) relay(w *world) (stop func()) {
	srv := w.net.Server(server.WithLinks(), server.WithLogger(quiet))
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
		up := w.net.Client("a")
		up.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) { r.note("<", data); conn.Write(data) })
		assert.NoError(w.t, up.Run())
		conn.SetData("up", up)
	})
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		r.note(">", data)
		conn.GetData("up").(*client.Client).Write(data)
	})
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { conn.GetData("up").(*client.Client).Close() })
	ended := make(chan error, 1)
	go func() { ended <- srv.Run("relay") }()
	return func() { srv.Shutdown(); assert.NoError(w.t, <-ended) }
}

// recordOneSession plays a session.
func recordOneSession(t *testing.T) []string {
	r := &recorder{}
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("relay"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a", gateway.WithBackendName("back"))
		h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			if string(packet) == "bye" {
				conn.CloseWith(4000, "bye")
			}
		}, 1)
		stopRelay := r.relay(w)
		time.Sleep(1900 * time.Millisecond) // a link after some 1 s, and no PING yet
		synctest.Wait()
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("hello"))
		assert.Equal(t, "hello", string(<-got))
		cli.Write([]byte("bye"))
		time.Sleep(2 * time.Second) // a PING or two
		synctest.Wait()
		cli.Close()
		stopRelay()
		stop()
	}, gateway.WithName("front"))
	return append(r.said, r.pings...)
}

// recordOneMove plays a session whose link is lost, which goes on over the next one, and is moved away.
func recordOneMove(t *testing.T) []string {
	r := &recorder{}
	var elsewhere *gateway.Endpoint
	inWorld(t, time.Hour, func(w *world) found {
		elsewhere = gateway.NewEndpoint("game", w.net.Client("b"))
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("relay")), elsewhere}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a", gateway.WithMoveState(func(*server.Conn) []byte { return []byte("hp 7") }))
		lobby := h.Group("lobby")
		h.srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { lobby.Join(conn) })
		stopRelay := r.relay(w)
		time.Sleep(3 * time.Second)
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("hello"))
		assert.Equal(t, "hello", string(<-got))
		w.net.Cut("relay")
		r.forget()
		_, stopElsewhere := runMemHost(t, w.net, "b")
		time.Sleep(5 * time.Second)
		assert.NoError(t, lobby.Cast([]byte("hi")))
		assert.Equal(t, "hi", string(<-got))
		assert.NoError(t, w.MoveConn(w.Conns()[0], elsewhere))
		time.Sleep(time.Second)
		synctest.Wait()
		cli.Close()
		synctest.Wait()
		stopRelay()
		stop()
		stopElsewhere()
	})
	return r.said[3:] // behind HELLO, WELCOME and READY
}

// getAddress returns whom a packet of either direction is addressed to.
func getAddress(data []byte) string {
	if addr, _, err := gateway.UnmarshalGatewayOutPacket(data); err == nil {
		return addr
	}
	addr, _, _, _ := gateway.UnmarshalGatewayInPacket(data)
	return addr
}
