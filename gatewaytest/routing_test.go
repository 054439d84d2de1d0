package gatewaytest_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// newRouter is a gateway to be tested: "chat hello" goes to the endpoint called chat, without that word.
func newRouter(srv *server.Server, scanner gateway.Scanner) *gateway.Gateway {
	gw := gateway.NewGateway(srv, scanner)
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		name, rest, _ := bytes.Cut(packet, []byte(" "))
		endpoint, err := gw.GetConnEndpoint(string(name), conn)
		if err != nil {
			conn.Write([]byte("nobody is called " + string(name)))
			return
		}
		endpoint.Forward(conn, rest)
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, e *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(append([]byte(e.GetName()+": "), packet...))
	})
	return gw
}

// A gateway whose handler routes by what packets say: which endpoint gets what, and what the player hears.
func TestRouting(t *testing.T) {
	network := gatewaytest.NewNetwork()
	chat := gatewaytest.NewEndpoint(t, network, "chat", "chat-1")
	world := gatewaytest.NewPlainEndpoint(t, network, "world", "world-1")
	world.Answer(func(_ string, packet []byte) [][]byte { return [][]byte{append([]byte("you "), packet...)} })
	gw := newRouter(network.Server(), gateway.NewStaticScanner(chat.Endpoint(), world.Endpoint()))
	events := gatewaytest.NewRecorder(t, gw)
	gatewaytest.Start(t, gw, "gate")

	ann := gatewaytest.NewPlayer(t, network, "gate")
	ann.Send([]byte("chat hello"))
	chat.Expect(ann.Addr(), []byte("hello"))
	ann.Send([]byte("world walk"))
	world.Expect(ann.Addr(), []byte("walk"))
	ann.Expect([]byte("world: you walk"))
	ann.Send([]byte("shop buy"))
	ann.Expect([]byte("nobody is called shop"))
	chat.Push(ann.Addr(), []byte("bob says hi"))
	ann.Expect([]byte("chat: bob says hi"))
	ann.Leave()
	events.Wait("closed " + ann.Addr())

	assert.Equal(t, []string{`received 198.18.0.1:1024 "walk"`}, world.Lines())
	assert.ElementsMatch(t, []string{"link up chat-1", "link up world-1"}, events.Lines()[:2])
	assert.Equal(t, []string{
		`opened 198.18.0.1:1024`,
		`received 198.18.0.1:1024 "chat hello"`,
		`received 198.18.0.1:1024 "world walk"`,
		`delivered 198.18.0.1:1024 world-1 "you walk"`,
		`written 198.18.0.1:1024 "world: you walk"`,
		`received 198.18.0.1:1024 "shop buy"`,
		`written 198.18.0.1:1024 "nobody is called shop"`,
		`delivered 198.18.0.1:1024 chat-1 "bob says hi"`,
		`written 198.18.0.1:1024 "chat: bob says hi"`,
		`closed 198.18.0.1:1024`,
	}, events.Lines()[2:])
}
