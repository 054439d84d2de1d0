//go:build linux && !noloops

package gateway_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// What backends do, they do on event loops as well, which they take only when told to.
func TestBackendsOnLoops(t *testing.T) {
	hostOptions = []server.Option{server.WithEngine(server.EngineLoops)}
	defer func() { hostOptions = nil }()
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"open, echo, close", TestBackendConn},
		{"kick", TestBackendKick},
		{"release", TestBackendRelease},
		{"direct clients", TestBackendServesDirectClients},
		{"shutdown", TestBackendShutdown},
		{"told why", TestDroppedBackendIsTold},
		{"cast", TestCast},
		{"types of casts", TestCastTypes},
		{"lane loss", TestLaneLossIsCountedExactly},
		{"malformed control", TestMalformedControlCostsTheLink},
		{"handoff", TestHandoff},
		{"drain", TestDrainWhilePlayersJoin},
		{"many sessions", TestEventsOfManySessions},
		{"largest packet", TestLargestPacketCrossesEveryPair},
		{"links only", TestLinksOnly},
		{"plain gateway", TestPlainGatewayIsServed},
		{"refused link", TestRefusedLinkIsExplained},
	} {
		t.Run(test.name, test.run)
	}
}

// A client's text has to be UTF-8 from its first packet on, though a link's needn't.
func TestFirstTextIsUTF8(t *testing.T) {
	defer func() { hostOptions = nil }()
	for name, engine := range engines() {
		for plain, options := range map[string][]gateway.BackendOption{"": nil, " and plain gateways": {gateway.WithPlainGateways()}} {
			t.Run(name+plain, func(t *testing.T) {
				hostOptions = []server.Option{engine}
				h := newHost(t, server.NetworkWebsocket, nil, options...)
				ws := dialWS(t, h.address)
				require.NoError(t, ws.WriteMessage(1, []byte("\xff\xfe")))
				_, _, err := ws.ReadMessage()
				assert.Equal(t, 1007, closeCode(err))
				for _, events := range h.heard() {
					assert.NotContains(t, events, "\xff\xfe")
				}
			})
		}
	}
}
