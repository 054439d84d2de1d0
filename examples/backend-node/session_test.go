package backendnode_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestEcho(t *testing.T) {
	const players, packets = 20, 200
	n := startNode(t, "--name", "echo")
	e := endpoint(n.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	f.play(t, players, packets).wait(t, packets)
	p := f.join(t)
	assert.Equal(t, "", p.ask(t, ""), "an empty packet is a packet")
	large := strings.Repeat("x", server.DefaultMaxPacketSize)
	assert.Equal(t, large, p.ask(t, large))
	assert.Equal(t, fmt.Sprint(players+1), p.ask(t, "opens"))
	assert.Equal(t, "4", p.ask(t, "count"))
	stats := f.Stats()
	assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.DroppedMalformed+stats.ControlStray+stats.ControlUnknown)
	assert.Zero(t, f.failed.Load())
	assert.EqualValues(t, 2, stats.LinksOpened)
	n.end(t, os.Interrupt)
}

// A session knows its player, a WebSocket player gets each packet in the type that it used itself, and is closed with the code
// that the backend gave, behind what was written before.
func TestOpenedAndClosed(t *testing.T) {
	n := startNode(t)
	f := newFront(t, "websocket", 2, []*gateway.Endpoint{endpoint(n.address)},
		gateway.WithOpenAttributes(func(*server.Conn) map[string]string { return map[string]string{"language": "eo"} }))
	for _, test := range []struct {
		said, reason string
		code         int
	}{{"close 4001 cheater", "cheater", 4001}, {"close 1002 cheater", "", 1008}} {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+f.address, nil)
		require.NoError(t, err)
		defer ws.Close()
		require.NoError(t, ws.SetReadDeadline(time.Now().Add(patience)))
		for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage, websocket.TextMessage} {
			require.NoError(t, ws.WriteMessage(kind, []byte("who")))
			got, packet, err := ws.ReadMessage()
			require.NoError(t, err)
			assert.Equal(t, kind, got)
			assert.JSONEq(t, fmt.Sprintf(`{"address": %q, "transport": "websocket", "type": %d, "congested": false,
				"attributes": {"language": "eo"}}`, ws.LocalAddr(), kind), string(packet))
		}
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("last words")))
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte(test.said)))
		require.NoError(t, ws.WriteMessage(websocket.TextMessage, []byte("too late")))
		_, packet, err := ws.ReadMessage()
		require.NoError(t, err)
		assert.Equal(t, "last words", string(packet))
		_, _, err = ws.ReadMessage()
		var closed *websocket.CloseError
		require.True(t, errors.As(err, &closed), "%v", err)
		assert.Equal(t, test.code, closed.Code)
		if test.reason != "" {
			assert.Equal(t, test.reason, closed.Text)
		}
	}
	assert.EqualValues(t, 2, f.Stats().Kicked)
	p := f.join(t)
	assert.Equal(t, "3", p.ask(t, "opens"))
}

// Release ends the session and keeps the player, whose next packet opens another one.
func TestRelease(t *testing.T) {
	n := startNode(t)
	e := endpoint(n.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{e})
	p := f.join(t)
	assert.Equal(t, "hello", p.ask(t, "hello"))
	assert.Equal(t, "2", p.ask(t, "count"))
	p.say("release")
	require.Eventually(t, func() bool { return e.Sessions() == 0 }, patience, time.Millisecond)
	assert.Equal(t, "1", p.ask(t, "count"), "a new session")
	assert.Equal(t, "2", p.ask(t, "opens"))
	assert.Zero(t, f.Stats().ControlStray)
}

// What is said in a room reaches its members behind every gateway, and nobody else; what is said to all on the lane stays there.
func TestCasts(t *testing.T) {
	n := startNode(t)
	one := gateway.WithEndpointConnectionPoolSize(1) // all players on one lane
	here, there := endpoint(n.address), endpoint(n.address, one)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{here})
	other := newFront(t, "tcp", 1, []*gateway.Endpoint{there})
	var all []*player
	for i := range 6 {
		front := f
		if i >= 4 {
			front = other
		}
		all = append(all, front.join(t))
		assert.Equal(t, "hello", all[i].ask(t, "hello"))
	}
	members := []*player{all[0], all[1], all[2], all[4]} // pool 2: on both lanes
	for _, p := range members {
		p.say("join red")
		assert.Equal(t, "joined", p.ask(t, "joined"))
	}
	all[3].say("say red to the room")
	for _, p := range members {
		assert.Equal(t, "to the room", p.next(t))
	}
	all[0].say("leave red")
	assert.Equal(t, "left", all[0].ask(t, "left"))
	members[1].say("say red once more")
	for _, p := range members[1:] {
		assert.Equal(t, "once more", p.next(t))
	}
	all[5].say("all on this lane")
	for _, p := range all[4:] {
		assert.Equal(t, "on this lane", p.next(t))
	}
	all[2].say("others to the others")
	for i, p := range all {
		if i != 2 {
			assert.Equal(t, "to the others", p.next(t))
		}
	}
	all[2].say("everyone to everyone")
	for _, p := range all {
		assert.Equal(t, "to everyone", p.next(t))
	}
	for _, p := range all {
		assert.Equal(t, "the end", p.ask(t, "the end"), "nothing else came")
	}
	for _, g := range []*front{f, other} {
		assert.NotZero(t, g.Stats().Casts)
		assert.Zero(t, g.Stats().DroppedNotOpen+g.Stats().ControlStray)
	}
}

// Players are switched between two processes while they play. Nothing is lost, doubled or reordered, and the count that each
// process keeps of a player's packets goes along.
func TestMove(t *testing.T) {
	const players, packets, switches = 20, 300, 10
	a, b := startNode(t), startNode(t)
	ea, eb := endpoint(a.address), endpoint(b.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{ea, eb})
	all := f.play(t, players, packets)
	for i := range switches {
		all.until(t, players*packets*(i+1)/(switches+2))
		f.SwitchEndpoint(ea, eb)
		ea, eb = eb, ea
	}
	all.wait(t, packets)
	stats := f.Stats()
	assert.Zero(t, f.failed.Load())
	assert.Zero(t, stats.MovesTimedOut)
	assert.Zero(t, stats.DroppedNotOpen+stats.DroppedUnknown+stats.ControlStray)
	opens := 0
	for i, n := range []*node{a, b} { // a player of each one, so that both answer
		p := newFront(t, "tcp", 2, []*gateway.Endpoint{endpoint(n.address)}).join(t)
		opened, err := strconv.Atoi(p.ask(t, "opens"))
		require.NoError(t, err)
		assert.Greater(t, opened, players, "process %d", i)
		opens += opened
	}
	assert.LessOrEqual(t, opens, players*(switches+1)+2)
}

// A backend hands a player over to an endpoint of another name, with its count; where there is none, the player stays.
func TestHandoff(t *testing.T) {
	lobby, match := startNode(t), startNode(t)
	el := endpoint(lobby.address)
	em := gateway.NewEndpoint("match", client.NewTCP(match.address), gateway.WithEndpointConnectionPoolSize(2))
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{el, em})
	p := f.join(t)
	p.say("handoff nowhere")
	assert.Equal(t, "2", p.ask(t, "count"))
	require.Eventually(t, func() bool { return f.Stats().HandoffsFailed == 1 }, patience, time.Millisecond)
	p.say("handoff match")
	require.Eventually(t, func() bool { return em.Sessions() == 1 && el.Sessions() == 0 }, patience, time.Millisecond)
	assert.Equal(t, "4", p.ask(t, "count"))
	assert.Equal(t, "1", p.ask(t, "opens"))
}

// A process that is told to end has its players moved elsewhere, and ends.
func TestDrain(t *testing.T) {
	const players, packets = 10, 200
	a, b := startNode(t), startNode(t)
	ea, eb := endpoint(a.address), endpoint(b.address)
	f := newFront(t, "tcp", 2, []*gateway.Endpoint{ea, eb})
	all := f.play(t, players, packets)
	all.until(t, players*packets/4)
	a.end(t, syscall.SIGTERM)
	all.wait(t, packets)
	assert.Equal(t, players, eb.Sessions())
}
