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

// The life of a session that PROTOCOL.md shows byte by byte is what is really on a link: "> " from the gateway, "< " from the
// backend, without the random fields.
func TestProtocolDump(t *testing.T) {
	said := recordOneSession(t)
	doc, err := os.ReadFile("PROTOCOL.md")
	require.NoError(t, err)
	var shown []string
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "> ") && strings.Contains(line, "de ad be ef") || strings.HasPrefix(line, "< ") {
			line, _, _ = strings.Cut(line, "   ") // what follows explains
			shown = append(shown, strings.TrimSpace(line))
		}
	}
	assert.Equal(t, said, shown)
}

// recordOneSession plays a session through a relay that writes down what it carries.
func recordOneSession(t *testing.T) (said []string) {
	var mu sync.Mutex
	var pings []string // the first exchange, which comes when it comes
	note := func(from string, data []byte) {
		mu.Lock()
		defer mu.Unlock()
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
		if pingOrPong := data[10] == 16 || data[10] == 17; pingOrPong && getAddress(data) == "0.0.0.0:0" {
			if len(pings) < 2 {
				pings = append(pings, text)
			}
			return
		}
		said = append(said, text)
	}
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("relay"))}}
	}, func(w *world) {
		h, stop := runMemHost(t, w.net, "a", gateway.WithBackendName("back"))
		h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
			if string(packet) == "bye" {
				conn.CloseWith(4000, "bye")
			}
		}, 1)
		relay := server.New("tcp", server.WithTransport(w.net.Transport()), server.WithLinks())
		var up *client.Client
		relay.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
			up = w.net.Client("a")
			up.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) { note("<", data); conn.Write(data) })
			assert.NoError(t, up.Run())
		})
		relay.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, data []byte) { note(">", data); up.Write(data) })
		ended := make(chan error, 1)
		go func() { ended <- relay.Run("relay") }()
		time.Sleep(1900 * time.Millisecond) // a link after some 1 s, and no PING yet
		synctest.Wait()
		cli, got := w.ClientFrom("203.0.113.7:4711")
		cli.Write([]byte("hello"))
		assert.Equal(t, "hello", string(<-got))
		cli.Write([]byte("bye"))
		time.Sleep(2 * time.Second) // a PING or two
		synctest.Wait()
		cli.Close()
		up.Close()
		stop()
		relay.Shutdown()
		assert.NoError(t, <-ended)
	}, gateway.WithName("front"))
	return append(said, pings...)
}

// getAddress returns whom a packet of either direction is addressed to.
func getAddress(data []byte) string {
	if addr, _, err := gateway.UnmarshalGatewayOutPacket(data); err == nil {
		return addr
	}
	addr, _, _, _ := gateway.UnmarshalGatewayInPacket(data)
	return addr
}
