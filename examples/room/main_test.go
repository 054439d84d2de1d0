package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
)

func TestMain(m *testing.M) { gwtest.Main(m) }

// The program, with A drained while everybody walks.
func TestRunWithDrainInTheMiddle(t *testing.T) {
	var out strings.Builder
	ok, err := run(t.Context(), &out, options{listen: "127.0.0.1:0", bots: 8, duration: 3 * time.Second})
	t.Log(out.String())
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Contains(t, out.String(), "A is empty after")
	// The selector gives each backend half of the players, or nearly, as they come all at once.
	assert.NotContains(t, out.String(), " 0 moves")
	assert.Contains(t, out.String(), "8 players")
	assert.Contains(t, out.String(), " 0 lost updates, 0 late ones: all is well")
}

func TestListenNeedsAHost(t *testing.T) {
	for _, listen := range []string{"", "8080", ":8080", "0.0.0.0:0", "[::]:0"} {
		_, err := run(t.Context(), io.Discard, options{listen: listen})
		assert.ErrorContains(t, err, listen, listen)
	}
}

func open(t *testing.T) *room {
	r := &room{report: newReport(t.Output())}
	t.Cleanup(func() { assert.NoError(t, r.close()) })
	require.NoError(t, r.open(t.Context(), "127.0.0.1:0"))
	return r
}

// request asks the page's server as a page of origin would.
func request(t *testing.T, method, url, origin string) (status int, body string) {
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	req.Close = true
	req.Header.Set("Origin", origin)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(data)
}

func TestPageKnowsTheGateway(t *testing.T) {
	r := open(t)
	status, body := request(t, http.MethodGet, r.page.url, "")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, strings.ReplaceAll(body, `\/`, "/"), `const address = "`+r.front.url()+`"`)
}

const anotherSite = "http://another.example"

// A page's connection stays the same while the button moves its player.
func TestButtonMovesThePlayer(t *testing.T) {
	r := open(t)
	_, _, err := websocket.DefaultDialer.DialContext(t.Context(), r.front.url(), http.Header{"Origin": {anotherSite}})
	require.ErrorIs(t, err, websocket.ErrBadHandshake, "another site's page")
	origin := strings.TrimSuffix(r.page.url, "/")
	socket, _, err := websocket.DefaultDialer.DialContext(t.Context(), r.front.url(), http.Header{"Origin": {origin}})
	require.NoError(t, err)
	defer socket.Close()
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))

	require.NoError(t, socket.WriteJSON(order{Hello: "Ann", X: 0.25, Y: 0.5}))
	first := hearUntil(t, socket, func(h heard) bool { return h.You != 0 })
	from := first.Backend
	require.NoError(t, socket.WriteJSON(order{N: 1, X: 0.75, Y: 2}))
	status, _ := request(t, http.MethodPost, r.page.url+"drain/"+from, anotherSite)
	require.Equal(t, http.StatusForbidden, status, "another site's page")
	status, _ = request(t, http.MethodPost, r.page.url+"drain/"+from, origin)
	require.Equal(t, http.StatusAccepted, status)

	second := hearUntil(t, socket, func(h heard) bool { return h.Moved })
	assert.Equal(t, first.You, second.You)
	assert.NotEqual(t, from, second.Backend)
	hearUntil(t, socket, func(h heard) bool { return h.Backends[from] == empty })
	dots := hearUntil(t, socket, func(h heard) bool { return len(h.Dots) > 0 }).Dots
	assert.Equal(t, []dot{{player: player{ID: first.You, Name: "Ann", N: 1, X: 0.75, Y: 1}, On: second.Backend}}, dots)

	status, _ = request(t, http.MethodPost, r.page.url+"undrain/"+from, origin)
	require.Equal(t, http.StatusNoContent, status)
	hearUntil(t, socket, func(h heard) bool { return h.Backends[from] == works })
	assert.Equal(t, 1, r.report.totals().moves)
}

// heard is what comes from a backend: either of the two.
type heard struct {
	notice
	picture
}

// hearUntil reads until a packet is as wanted.
func hearUntil(t *testing.T, socket *websocket.Conn, wanted func(h heard) bool) (h heard) {
	for {
		kind, packet, err := socket.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, websocket.TextMessage, kind)
		h = heard{}
		require.NoError(t, json.Unmarshal(packet, &h))
		if wanted(h) {
			return h
		}
	}
}

func TestMovesAreCounted(t *testing.T) {
	for _, test := range []struct {
		name string
		n    uint64
		lost uint64
		late bool
	}{
		{"the next one", 6, 0, false},
		{"one that was left out before it", 7, 1, false},
		{"the same again", 5, 0, true},
		{"an older one", 4, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := player{N: 5}
			lost, late := p.move(order{N: test.n})
			assert.Equal(t, test.lost, lost)
			assert.Equal(t, test.late, late)
		})
	}
}

func TestWorldKeepsTheDotOfWhoTravels(t *testing.T) {
	ann := player{ID: 1, Name: "Ann"}
	on := func(w *world) (backends []string) {
		for _, d := range w.picture().Dots {
			backends = append(backends, d.On)
		}
		return backends
	}
	for _, test := range []struct {
		name   string
		happen func(w *world)
		want   []string
	}{
		{"on A", func(*world) {}, []string{"A"}},
		{"left", func(w *world) { w.leave(1, "A", false) }, nil},
		{"on the way", func(w *world) { w.leave(1, "A", true) }, []string{"A"}},
		{"arrived", func(w *world) { w.leave(1, "A", true); w.show(ann, "B") }, []string{"B"}},
		{"arrived before A knew", func(w *world) { w.show(ann, "B"); w.leave(1, "A", true) }, []string{"B"}},
		{"never arrived", func(w *world) { w.leave(1, "A", true); w.dots[1].until = time.Now().Add(-1) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			w.show(ann, "A")
			test.happen(w)
			assert.Equal(t, test.want, on(w))
		})
	}
}

func TestSummaryFindsFault(t *testing.T) {
	for _, test := range []struct {
		name   string
		happen func(r *report)
		ok     bool
	}{
		{"nothing", func(*report) {}, true},
		{"players moved", func(r *report) { r.joined(); r.moved(); r.cast(); r.lost(0) }, true},
		{"a lost update", func(r *report) { r.lost(1) }, false},
		{"a late one", func(r *report) { r.late() }, false},
		{"a complaint", func(r *report) { r.fault("cut off") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReport(io.Discard)
			test.happen(r)
			assert.Equal(t, test.ok, r.summary())
		})
	}
}
