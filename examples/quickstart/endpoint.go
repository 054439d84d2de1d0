package main

import (
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// backend is a game server behind the gateways, made by gateway.NewBackend: each player is a *server.Conn, as if it were
// connected directly. It answers every packet with its name, a space, and the packet. It can be killed and started again.
type backend struct {
	name    string // static, as is the next
	network server.Network
	address string // the same on each start

	srv     *server.Server // of the last start, as is the next
	service *service       // nil: not running

	mu    sync.Mutex // guards the rest
	links []net.Conn // the WebSocket links' sockets, for kill
}

func startBackend(name string, network server.Network) (*backend, error) {
	b := &backend{name: name, network: network}
	if err := b.start(anyPort); err != nil {
		return nil, err
	}
	b.address = b.service.address
	return b, nil
}

// start makes a new server, because one that was shut down stays so.
func (b *backend) start(addr string) (err error) {
	b.srv = server.New(b.network, server.WithWebsocketConnInitializer(b.keep))
	if err := gateway.NewBackend(b.srv, gateway.LinksOnly(), gateway.WithBackendName(b.name)).Err(); err != nil {
		return err
	}
	b.srv.RegConnectionReceivePacketEvent(b.answer)
	b.service, err = start(b.srv, b.srv.Run, addr)
	return err
}

// client returns a client that connects the way links to this endpoint do.
func (b *backend) client() *client.Client {
	if b.network == server.NetworkWebsocket {
		return client.NewWebsocket("ws://" + b.address + "/")
	}
	return client.NewTCP(b.address)
}

// answer handles a player's packet. A reply that can't be written any more, because the link is lost, is missed by the player:
// see report.
func (b *backend) answer(_ *server.Server, player *server.Conn, packet []byte) {
	player.Write(append([]byte(b.name+" "), packet...))
}

// keep remembers a link's socket.
func (b *backend) keep(_ http.ResponseWriter, _ *http.Request, ws *websocket.Conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.links = append(b.links, ws.NetConn())
	return nil
}

// kill ends the endpoint as the end of its process would: Shutdown flushes and says good-bye, so the sockets are cut
// before it can. What was on its way to players, or had come and was not handled, is lost.
func (b *backend) kill() {
	b.mu.Lock()
	for _, socket := range b.links {
		socket.Close()
	}
	b.links = nil
	b.mu.Unlock()
	if err := b.stop(); err != nil {
		slog.Warn("endpoint ended badly", "endpoint", b.name, "err", err)
	}
}

// stop ends the endpoint in order, if it runs.
func (b *backend) stop() error {
	if b.service == nil {
		return nil
	}
	b.srv.Shutdown()
	err := <-b.service.ended
	b.service = nil
	return err
}
