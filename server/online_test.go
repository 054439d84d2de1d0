package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

func TestOnline(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network)
			assert.Zero(t, h.GetOnlineCount())
			assert.Empty(t, h.GetOnlineAll())
			first, a := h.dial(t)
			_, b := h.dial(t)
			assert.Equal(t, 2, h.GetOnlineCount())
			all := h.GetOnlineAll()
			require.Len(t, all, 2)
			for _, conn := range []*server.Conn{a, b} {
				id := conn.GetID()
				assert.True(t, h.IsOnline(id))
				assert.Equal(t, id, h.GetOnline(id).GetID())
				assert.Equal(t, id, all[id].GetID())
			}
			delete(all, a.GetID())
			assert.Len(t, h.GetOnlineAll(), 2, "the map is the caller's own")
			assert.False(t, h.IsOnline("nobody"))
			assert.Nil(t, h.GetOnline("nobody"))

			h.CloseConn("nobody")
			h.CloseConn(a.GetID())
			first.ExpectFarewell(1000)
			first.Farewell()
			assert.Nil(t, h.end(t))
			require.Eventually(t, func() bool { return !h.IsOnline(a.GetID()) && h.Stats().Closed == 1 }, patience, tick)
			assert.Equal(t, 1, h.GetOnlineCount())
			assert.Equal(t, server.Stats{Opened: 2, Closed: 1}, h.Stats())
		})
	}
}

// While its handlers run, the closed one included, a connection is online.
func TestOnlineInHandlers(t *testing.T) {
	h := newHost(tcp)
	seen := make(chan bool, 2)
	h.RegConnectionOpenedEvent(func(s *server.Server, conn *server.Conn) { seen <- s.IsOnline(conn.GetID()) })
	h.RegConnectionClosedEvent(func(s *server.Server, conn *server.Conn, _ any) { seen <- s.IsOnline(conn.GetID()) }, -1)
	h.start(t)
	p, _ := h.dial(t)
	p.Farewell()
	h.end(t)
	assert.True(t, await(t, seen, "opened event"))
	assert.True(t, await(t, seen, "closed event"))
}

func TestBroadcast(t *testing.T) {
	h := serve(t, ws)
	peers := map[string]*conformance.Peer{}
	for _, name := range []string{"red1", "red2", "blue1", "blue2"} {
		peers[name] = dialNamed(t, h, name)
	}
	name := func(conn *server.Conn) string { return conn.GetData("name").(string) }
	packet := []byte("all")
	h.Broadcast(packet)
	clear(packet) // reused at once
	h.Broadcast([]byte("red"), func(conn *server.Conn) bool { return name(conn)[:3] == "red" }, nil)
	h.Broadcast([]byte("red first"),
		func(conn *server.Conn) bool { return name(conn)[:3] == "red" },
		func(conn *server.Conn) bool { return name(conn)[3] == '1' })
	h.Broadcast([]byte("end"))
	for name, want := range map[string][]string{
		"red1": {"all", "red", "red first", "end"}, "red2": {"all", "red", "end"},
		"blue1": {"all", "end"}, "blue2": {"all", "end"},
	} {
		for _, packet := range want {
			peers[name].Expect(text, []byte(packet))
		}
	}
}
