package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// outcome is how a conversation has ended, as the client's program tells it.
type outcome struct {
	Code   int
	Reason string
	Clean  bool
	Error  string
}

// Of one conversation: 50 texts and a large binary packet, three times, of which the backend has the second.
const plainPackets, v1Packets = 2 * 51, 51

// endings are who closes a conversation, and what the client and the gateway are to hear of it. A client is told its own code again,
// without the reason.
var endings = []struct {
	by      string
	outcome outcome
	code    int // at the gateway; 0: an orderly end
}{
	{"ours", outcome{Code: 4000, Clean: true}, 4000},
	{"theirs", outcome{Code: 4001, Reason: "game over", Clean: true}, 0},
}

// frontOptions are the ways in which a server may read its WebSocket clients.
func frontOptions() map[string][]server.Option {
	all := map[string][]server.Option{"compressed": {server.WithWebsocketCompression(1), server.WithWebsocketWriteCompression()}}
	for name, engine := range engines() {
		all[name] = []server.Option{engine}
	}
	return all
}

// converseBy has one conversation for each ending, by a program that prints the outcome as JSON.
func converseBy(t *testing.T, path string, args ...string) {
	backs := []server.Network{server.NetworkWebsocket, server.NetworkTcp}
	for name, options := range frontOptions() {
		back := backs[len(name)%2]
		t.Run(name+" to "+string(back), func(t *testing.T) {
			a := newArena(t, server.NetworkWebsocket, back, options...)
			for i, ending := range endings {
				out := runClient(t, path, append(args[:len(args):len(args)], "ws://"+a.address+"/", ending.by)...)
				var got outcome
				require.NoError(t, json.Unmarshal(out, &got), string(out))
				require.Equal(t, ending.outcome, got)
				a.checkEnded(t, ending.code)
				a.checkWhole(t, (i+1)*plainPackets, (i+1)*v1Packets)
			}
		})
	}
}

func (a *arena) checkEnded(t *testing.T, code int) {
	t.Helper()
	reason := a.ended(t)
	if code == 0 {
		assert.Nil(t, reason)
		return
	}
	var closed *websocket.CloseError
	if err, _ := reason.(error); assert.ErrorAs(t, err, &closed) {
		assert.Equal(t, websocket.CloseError{Code: code, Text: "that was it"}, *closed)
	}
}

func TestRealClientNode(t *testing.T) {
	notShort(t)
	node := tool(t, "apt-get install nodejs npm", "node")
	converseBy(t, node, clientFiles+"/ws.js", wsModule(t))
}

func TestRealClientPython(t *testing.T) {
	notShort(t)
	const python = "/usr/bin/python3" // the one that Debian's packages are for
	if err := exec.Command(python, "-c", "import websockets").Run(); err != nil {
		missing(t, "websockets for "+python+": apt-get install python3-websockets")
	}
	converseBy(t, python, clientFiles+"/websockets_client.py")
}

// A page in a browser. It is from another origin than the gateways, one of which does not allow that.
func TestRealClientBrowser(t *testing.T) {
	notShort(t)
	chromium := tool(t, "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	type conversation struct {
		URL    string `json:"url"`
		Ending string `json:"ending"`
	}
	var plan []conversation
	outcomes := make(chan []outcome, 1)
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(clientFiles)))
	mux.HandleFunc("POST /outcomes", func(_ http.ResponseWriter, r *http.Request) {
		var got []outcome
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&got))
		outcomes <- got
	})
	pages := httptest.NewServer(mux)
	t.Cleanup(pages.Close)

	type stage struct {
		*arena
		name string
	}
	var stages []stage
	for name, options := range frontOptions() {
		a := newArena(t, server.NetworkWebsocket, server.NetworkTcp, append(options, server.WithWebsocketOrigins(pages.URL))...)
		stages = append(stages, stage{a, name})
		for _, ending := range endings {
			plan = append(plan, conversation{"ws://" + a.address + "/", ending.by})
		}
	}
	for name, options := range map[string][]server.Option{
		"own origin only": nil, "another origin": {server.WithWebsocketOrigins("http://game.example")},
	} {
		a := newArena(t, server.NetworkWebsocket, server.NetworkTcp, options...)
		stages = append(stages, stage{a, name})
		plan = append(plan, conversation{"ws://" + a.address + "/", "ours"})
	}

	// Not before: what is registered may be read.
	mux.HandleFunc("GET /plan", func(w http.ResponseWriter, _ *http.Request) { assert.NoError(t, json.NewEncoder(w).Encode(plan)) })
	browse(t, chromium, pages.URL+"/page.html")
	var got []outcome
	select {
	case got = <-outcomes:
	case <-time.After(2 * patience):
		require.FailNow(t, "the page has not reported")
	}
	require.Len(t, got, len(plan))
	for i, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			if i >= len(frontOptions()) {
				assert.Equal(t, outcome{Error: "refused"}, got[len(frontOptions())+i])
				assert.Zero(t, s.Server().Stats().Opened)
				return
			}
			for j, ending := range endings {
				assert.Equal(t, ending.outcome, got[2*i+j])
				s.checkEnded(t, ending.code)
			}
			s.checkWhole(t, 2*plainPackets, 2*v1Packets)
		})
	}
}

// browse opens url in a browser until the test's end.
func browse(t *testing.T, chromium, url string) {
	cmd := exec.Command(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--no-default-browser-check", "--user-data-dir="+t.TempDir(),
		// Nobody outside this machine is asked for anything.
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
		"--disable-domain-reliability", "--metrics-recording-only", "--no-pings", "--no-proxy-server",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", url)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	ownGroup(cmd)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		killGroup(cmd)
		_ = cmd.Wait() // it was killed
	})
}
