package gateway_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

const listed = `{"endpoints": [
	{"name": "game", "address": "ws://10.0.0.7:9001/", "pool": 4, "weight": 2.5, "meta": {"region": "eu"}},
	{"name": "chat", "address": "tcp://10.0.0.8:9002", "reconnect": "500ms"}
]}`

func TestFileScanner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.json")
	require.NoError(t, os.WriteFile(path, []byte(listed), 0o600))
	s := gateway.NewFileScanner(path, time.Minute, gateway.WithEndpointWeight(7))
	assert.Equal(t, time.Minute, s.GetInterval())
	endpoints, err := s.GetEndpoints()
	require.NoError(t, err)
	require.Len(t, endpoints, 2)
	game, chat := endpoints[0], endpoints[1]
	assert.Equal(t, []string{"game", "ws://10.0.0.7:9001/"}, []string{game.GetName(), game.GetAddress()})
	assert.Equal(t, 2.5, game.Weight(), "the file's own wins")
	assert.Equal(t, map[string]string{"region": "eu"}, game.Meta())
	assert.Equal(t, []string{"chat", "10.0.0.8:9002"}, []string{chat.GetName(), chat.GetAddress()})
	assert.Equal(t, 7.0, chat.Weight())
	assert.Empty(t, chat.Meta())

	require.NoError(t, os.WriteFile(path, []byte(`{"endpoints": []}`), 0o600))
	endpoints, err = s.GetEndpoints()
	assert.NoError(t, err, "nobody is listed, which is no mistake")
	assert.Empty(t, endpoints)
	assert.Equal(t, time.Second, gateway.NewFileScanner(path, 0).GetInterval())
}

// Every mistake is an error that names the file and what is wrong, and finds no endpoint at all.
func TestFileScannerRefuses(t *testing.T) {
	entry := func(fields string) string {
		return `{"endpoints": [{"name": "ok", "address": "tcp://h:1"}, {` + fields + `}]}`
	}
	for name, test := range map[string]struct{ content, says string }{
		"empty":             {"", "EOF"},
		"half written":      {listed[:60], "unexpected EOF"},
		"something behind":  {`{"endpoints": []} {}`, "follows"},
		"no endpoints":      {`{}`, `no "endpoints"`},
		"unknown field":     {entry(`"name": "a", "address": "tcp://h:1", "wieght": 2`), "wieght"},
		"no name":           {entry(`"address": "tcp://h:1"`), "endpoint 1: no name"},
		"bad address":       {entry(`"name": "a", "address": "http://h:1"`), "http://h:1"},
		"no address":        {entry(`"name": "a"`), `""`},
		"pool 0":            {entry(`"name": "a", "address": "tcp://h:1", "pool": 0`), "pool 0"},
		"negative weight":   {entry(`"name": "a", "address": "tcp://h:1", "weight": -1`), "weight -1"},
		"no duration":       {entry(`"name": "a", "address": "tcp://h:1", "reconnect": "soon"`), "soon"},
		"too large a file":  {`{"endpoints": [` + strings.Repeat(" ", 16<<20) + `]}`, "16777216"},
		"a number for text": {entry(`"name": 7, "address": "tcp://h:1"`), "number"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "endpoints.json")
			require.NoError(t, os.WriteFile(path, []byte(test.content), 0o600))
			endpoints, err := gateway.NewFileScanner(path, 0).GetEndpoints()
			assert.ErrorContains(t, err, path)
			assert.ErrorContains(t, err, test.says)
			assert.Empty(t, endpoints)
		})
	}
}

// A file that breaks while the gateway runs changes nothing, and one that is whole again is believed.
func TestFileThatBreaksChangesNothing(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	path := filepath.Join(t.TempDir(), "endpoints.json")
	write := func(content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	write(`{"endpoints": [{"name": "game", "address": "tcp://` + b.address + `"}]}`)
	g := newGateway(t, "tcp", "game", gateway.NewFileScanner(path, time.Millisecond))
	require.Eventually(t, func() bool { _, err := g.GetEndpoint("game"); return err == nil }, patience, time.Millisecond)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("x"))
	write(`{"endpoints": [`)
	before := g.Stats().ScansFailed
	require.Eventually(t, func() bool { return g.Stats().ScansFailed >= before+5 }, patience, time.Millisecond)
	assert.Equal(t, "y", string(bot.ask(t, []byte("y"))))
	write(`{"endpoints": []}`)
	require.Eventually(t, func() bool { _, err := g.GetEndpoint("game"); return err != nil }, patience, time.Millisecond)
	assert.Equal(t, "z", string(bot.ask(t, []byte("z"))), "who is on it stays")
}
