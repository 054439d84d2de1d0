package gateway_test

import (
	"fmt"
	"sync"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// A gateway: WebSocket clients in front, one game server behind.
func ExampleNewGateway() {
	address, stop := startEndpoint()
	defer stop()
	game := gateway.NewEndpoint("game", client.NewTCP(address), gateway.WithEndpointConnectionPoolSize(4))
	gw := gateway.NewGateway(server.New(server.NetworkWebsocket), gateway.NewStaticScanner(game))

	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		endpoint, err := gw.GetConnEndpoint("game", conn) // the one this player is on, or a good one
		if err != nil {
			return // no link is up, not yet or for the moment: the packet is lost, the player stays
		}
		endpoint.Forward(conn, packet)
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})

	var once sync.Once // with the first link that is up
	gw.RegEndpointConnectOpenedEventHandle(func(gw *gateway.Gateway, _ *gateway.Endpoint) { once.Do(func() { go visit(gw) }) })
	fmt.Println(gw.Run("127.0.0.1:0/ws"))
	// Output:
	// the player hears you said hello
	// <nil>
}

// visit is a player, for the example's sake.
func visit(gw *gateway.Gateway) {
	player := client.NewWebsocket("ws://" + gw.Server().Addr().String() + "/ws")
	player.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) {
		fmt.Printf("the player hears %s\n", packet)
		gw.Shutdown()
	})
	if player.Run() == nil {
		player.Write([]byte("hello"))
	}
}

// startEndpoint runs the endpoint of ExampleMarshalGatewayInPacket.
func startEndpoint() (address string, stop func()) {
	srv := server.New(server.NetworkTcp, server.WithLinks())
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, link *server.Conn, data []byte) {
		player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		if err != nil || player == "0.0.0.0:0" {
			return
		}
		reply, err := gateway.MarshalGatewayInPacket(player, 0, append([]byte("you said "), packet...))
		if err == nil {
			link.Write(reply)
		}
	})
	listening, ended := make(chan struct{}), make(chan error, 1)
	srv.RegStartFinishEvent(func(*server.Server) { close(listening) })
	go func() { ended <- srv.Run("127.0.0.1:0") }()
	<-listening
	return srv.Addr().String(), func() { srv.Shutdown(); <-ended }
}

// An endpoint: a game server that knows its players.
func ExampleNewBackend() {
	srv := server.New(server.NetworkTcp)
	backend := gateway.NewBackend(srv) // every player behind a gateway is a *server.Conn of srv from now on
	lobby := backend.Group("lobby")
	srv.RegConnectionOpenedEvent(func(_ *server.Server, player *server.Conn) { lobby.Join(player) })
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, player *server.Conn, packet []byte) {
		if err := lobby.Cast(append([]byte("somebody said "), packet...)); err != nil { // one packet for each link
			fmt.Println(err)
		}
	})
	gone := make(chan struct{})
	srv.RegConnectionClosedEvent(func(*server.Server, *server.Conn, any) { close(gone) })

	// The rest is a gateway and its one player, for the example's sake.
	srv.RegStartFinishEvent(func(srv *server.Server) {
		game := gateway.NewEndpoint("game", client.NewTCP(srv.Addr().String()))
		gw := newExampleGateway(game)
		var once sync.Once
		gw.RegEndpointConnectOpenedEventHandle(func(gw *gateway.Gateway, _ *gateway.Endpoint) { once.Do(func() { go visit(gw) }) })
		go func() {
			if err := gw.Run("127.0.0.1:0/ws"); err != nil {
				fmt.Println(err)
			}
			<-gone
			srv.Shutdown()
		}()
	})
	fmt.Println(srv.Run("127.0.0.1:0"))
	// Output:
	// the player hears somebody said hello
	// <nil>
}

// newExampleGateway is the gateway of ExampleNewGateway.
func newExampleGateway(endpoint *gateway.Endpoint) *gateway.Gateway {
	gw := gateway.NewGateway(server.New(server.NetworkWebsocket), gateway.NewStaticScanner(endpoint))
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := gw.GetConnEndpoint(endpoint.GetName(), conn); err == nil {
			e.Forward(conn, packet)
		}
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	return gw
}

// An endpoint: a game server that gateways link to, written with the two codecs.
func ExampleMarshalGatewayInPacket() {
	srv := server.New(server.NetworkTcp, server.WithLinks())
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, link *server.Conn, data []byte) {
		player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		if err != nil || player == "0.0.0.0:0" { // which is no player
			return
		}
		fmt.Printf("a player says %s\n", packet)
		reply, err := gateway.MarshalGatewayInPacket(player, 0, append([]byte("you said "), packet...))
		if err != nil {
			return
		}
		link.Write(reply)
	})
	srv.RegStartFinishEvent(func(srv *server.Server) { go play(srv) })
	fmt.Println(srv.Run("127.0.0.1:0"))
	// Output:
	// a player says hello
	// and hears you said hello
	// <nil>
}

// play is a gateway of one packet, for the example's sake.
func play(srv *server.Server) {
	link := client.NewTCP(srv.Addr().String())
	link.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) {
		_, _, packet, _ := gateway.UnmarshalGatewayInPacket(data)
		fmt.Printf("and hears %s\n", packet)
		srv.Shutdown()
	})
	if link.Run() == nil {
		data, _ := gateway.MarshalGatewayOutPacket("192.0.2.1:4711", []byte("hello"))
		link.Write(data)
	}
}

// Endpoints of one name are chosen by their measured delay, unless a selector says otherwise.
func ExampleWithEndpointSelector() {
	nearest := func(endpoints []*gateway.Endpoint) *gateway.Endpoint {
		for _, e := range endpoints {
			if e.Meta()["region"] == "eu" {
				return e
			}
		}
		return endpoints[0]
	}
	gw := gateway.NewGateway(server.New(server.NetworkWebsocket), gateway.NewStaticScanner(), gateway.WithEndpointSelector(nearest))
	_, err := gw.GetEndpoint("game")
	fmt.Println(err)
	// Output: gateway: endpoint not exists
}

// A file that lists the endpoints is read anew every second; see NewFileScanner for what it says.
func ExampleNewFileScanner() {
	_, err := gateway.NewFileScanner("no-such-file.json", 0).GetEndpoints()
	fmt.Println(err)
	// Output: file scanner: no-such-file.json: open no-such-file.json: no such file or directory
}
