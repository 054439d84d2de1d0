package gatewaytest

import (
	"fmt"
	"testing"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// Player is a client of a gateway, or of a server. It records what it gets: Received, Closed, and Failed for what it could not send.
type Player struct {
	*Recorder
	client *client.Client // static, as is the next
	addr   string
}

// NewPlayer connects a player to the gateway or server at addr, until the test's end. It comes from remote, an IP address and port, or
// from one of 198.18.0.0/15 that no player has had; the first of a Network is 198.18.0.1:1024. Failing to connect fails the test.
func NewPlayer(t testing.TB, network *Network, addr string, remote ...string) *Player {
	t.Helper()
	if len(remote) > 1 {
		t.Fatalf("gatewaytest: player at %s: %d addresses to come from, %q", addr, len(remote), remote)
	}
	if len(remote) == 0 {
		remote = []string{network.playerAddress()}
	}
	p := &Player{
		Recorder: newRecorder(t, fmt.Sprintf("player %s at %s", remote[0], addr)),
		client:   network.ClientFrom(addr, remote[0]), addr: remote[0],
	}
	p.client.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) {
		p.add(Event{Kind: Received, Packet: copyOf(packet)})
	})
	p.client.RegConnectionClosedEvent(func(_ *client.Client, err any) { p.add(Event{Kind: Closed, Err: reasonOf(err)}) })
	if err := p.client.Run(); err != nil {
		t.Fatalf("gatewaytest: %s: %v", p.who, err)
	}
	t.Cleanup(func() { p.client.Close() })
	return p
}

// Addr returns the address that the player comes from: what gateways, servers and endpoints know it by.
func (p *Player) Addr() string { return p.addr }

// Send sends packet, which may be reused then, and returns at once.
func (p *Player) Send(packet []byte) {
	mine := copyOf(packet)
	p.client.Write(packet, func(err error) {
		if err != nil {
			p.add(Event{Kind: Failed, Packet: mine, Err: err})
		}
	})
}

// Next blocks until a packet has come that nobody has waited for, and returns it. The end of the connection fails the test.
func (p *Player) Next() []byte {
	p.t.Helper()
	return p.next()
}

// Expect is Next that fails the test if another packet than this one comes.
func (p *Player) Expect(packet []byte) {
	p.t.Helper()
	p.expect("", packet)
}

// Leave closes the connection after what was sent, and blocks until that is done.
func (p *Player) Leave() { p.client.Close() }

// NewConn returns a connection of a server that has no handlers, for functions that take one, and the player at its other end.
func NewConn(t testing.TB, network *Network) (*server.Conn, *Player) {
	t.Helper()
	srv, opened := network.Server(), make(chan *server.Conn, 1)
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { opened <- conn })
	remote := network.playerAddress()
	Serve(t, srv, "the conn of "+remote)
	player := NewPlayer(t, network, "the conn of "+remote, remote)
	return <-opened, player
}
