package gatewaytest_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// room is a backend to be tested: its players hear each other, and it counts what each of them says, wherever that was.
type room struct {
	backend *gateway.Backend
	players *gateway.Group
}

func newRoom(srv *server.Server) *room {
	r := &room{}
	r.backend = gateway.NewBackend(srv, gateway.WithMoveState(func(conn *server.Conn) []byte {
		return strconv.AppendInt(nil, int64(said(conn)), 10)
	}))
	r.players = r.backend.Group("players")
	srv.RegConnectionOpenedEvent(r.opened)
	srv.RegConnectionReceivePacketEvent(r.received)
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, _ any) { r.tell("%s has left", conn) })
	return r
}

func (r *room) opened(_ *server.Server, conn *server.Conn) {
	n, _ := strconv.Atoi(string(r.backend.MoveState(conn)))
	conn.SetData("said", n)
	r.tell("%s is here", conn)
	r.players.Join(conn)
	conn.Write([]byte("welcome"))
}

func (r *room) received(_ *server.Server, conn *server.Conn, packet []byte) {
	if string(packet) == "cheat" {
		conn.CloseWith(4000, "no cheating")
		return
	}
	conn.SetData("said", said(conn)+1)
	r.tell("%s says "+string(packet)+" as number "+strconv.Itoa(said(conn)), conn)
}

func said(conn *server.Conn) int { n, _ := conn.GetData("said").(int); return n }

// tell says something about a player to everybody.
func (r *room) tell(format string, about *server.Conn) {
	_ = r.players.Cast(fmt.Appendf(nil, format, about.GetIP())) // what is too large is the test's fault
}

// A room without a gateway: its players are the server's direct clients.
func TestRoomDirectly(t *testing.T) {
	network := gatewaytest.NewNetwork()
	srv := network.Server()
	newRoom(srv)
	gatewaytest.Serve(t, srv, "room")
	ann := gatewaytest.NewPlayer(t, network, "room", "10.0.0.1:1")
	ann.Send([]byte("hello")) // who doesn't speak might still become a gateway's link: only then is it a player
	ann.Expect([]byte("welcome"))
	ann.Expect([]byte("10.0.0.1 says hello as number 1"))
	bob := gatewaytest.NewPlayer(t, network, "room", "10.0.0.2:1")
	bob.Send([]byte("hi"))
	ann.Expect([]byte("10.0.0.2 is here"))
	ann.Expect([]byte("10.0.0.2 says hi as number 1"))
	bob.Leave()
	ann.Expect([]byte("10.0.0.2 has left"))
	ann.Send([]byte("cheat"))
	ann.Wait("closed: close 4000: no cheating")
}

// The same behind a gateway, which moves a player from one room to another.
func TestRoomBehindGateway(t *testing.T) {
	network := gatewaytest.NewNetwork()
	endpoints := map[string]*gateway.Endpoint{}
	for _, addr := range []string{"room-1", "room-2"} {
		srv := network.Server()
		newRoom(srv)
		gatewaytest.Serve(t, srv, addr)
		endpoints[addr] = gateway.NewEndpoint("room", network.Client(addr))
	}
	first := gateway.WithEndpointSelector(func(all []*gateway.Endpoint) *gateway.Endpoint { return all[0] })
	gw := gateway.NewGateway(network.Server(), gateway.NewStaticScanner(endpoints["room-1"], endpoints["room-2"]), first)
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		if endpoint, err := gw.GetConnEndpoint("room", conn); err == nil {
			endpoint.Forward(conn, packet)
		}
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	gatewaytest.Start(t, gw, "gate")

	ann := gatewaytest.NewPlayer(t, network, "gate", "10.0.0.1:1")
	ann.Send([]byte("hello"))
	ann.Expect([]byte("welcome"))
	ann.Expect([]byte("10.0.0.1 says hello as number 1"))
	bob := gatewaytest.NewPlayer(t, network, "gate", "10.0.0.2:1")
	bob.Send([]byte("hi"))
	ann.Expect([]byte("10.0.0.2 is here"))
	ann.Expect([]byte("10.0.0.2 says hi as number 1"))

	require.NoError(t, gw.MoveConn(gw.GetOnline(bob.Addr()), endpoints["room-2"]))
	ann.Expect([]byte("10.0.0.2 has left"))
	bob.Expect([]byte("welcome"))
	bob.Expect([]byte("10.0.0.2 says hi as number 1"))
	bob.Expect([]byte("welcome"))
	bob.Send([]byte("hi again"))
	bob.Expect([]byte("10.0.0.2 says hi again as number 2"))
	bob.Send([]byte("cheat"))
	bob.Wait("closed: close 4000: no cheating")
}

// A function that takes a connection needs no more than one.
func TestConnAlone(t *testing.T) {
	conn, ann := gatewaytest.NewConn(t, gatewaytest.NewNetwork())
	greet := func(conn *server.Conn) { conn.Write([]byte("hello " + conn.GetIP())) }
	greet(conn)
	ann.Expect([]byte("hello 198.18.0.1"))
	conn.CloseWith(4001, "that was all")
	ann.Wait("closed: close 4001: that was all")
}
