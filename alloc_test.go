//go:build !race

package gateway_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

// The codecs allocate what they return: one packet, one address.
func TestCodecAllocations(t *testing.T) {
	packet := make([]byte, 64)
	out, err := gateway.MarshalGatewayOutPacket("192.168.1.2:8080", packet)
	require.NoError(t, err)
	in, err := gateway.MarshalGatewayInPacket("192.168.1.2:8080", 1, packet)
	require.NoError(t, err)
	for name, f := range map[string]func(){
		"marshal out":   func() { _, _ = gateway.MarshalGatewayOutPacket("192.168.1.2:8080", packet) },
		"marshal in":    func() { _, _ = gateway.MarshalGatewayInPacket("192.168.1.2:8080", 1, packet) },
		"unmarshal out": func() { _, _, _ = gateway.UnmarshalGatewayOutPacket(out) },
		"unmarshal in":  func() { _, _, _, _ = gateway.UnmarshalGatewayInPacket(in) },
	} {
		assert.LessOrEqual(t, testing.AllocsPerRun(1000, f), 1.0, name)
	}
}

// Choosing an endpoint and finding a connection's own allocate nothing.
func TestChoiceAllocations(t *testing.T) {
	a, b := newBackend(t, "tcp", nil), newBackend(t, "tcp", nil)
	ea, eb := a.endpoint("game"), b.endpoint("game")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea, eb))
	ready(t, 1, ea, eb)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("bind me"))
	conn := onlyConn(t, g)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := g.GetEndpoint("game"); err != nil {
			t.Error(err)
		}
	}), "GetEndpoint")
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := g.GetConnEndpoint("game", conn); err != nil {
			t.Error(err)
		}
	}), "GetConnEndpoint")
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := g.GetEndpointByKey("game", "player 7"); err != nil {
			t.Error(err)
		}
	}), "GetEndpointByKey")
}
