// Command endpoint is a game server behind a gateway, written with nothing but the server package and the two codecs. It
// answers every packet with its name and the packet.
//
//	go run ./examples/endpoint -name A
//	go run ./examples/endpoint -name B -network tcp -listen 127.0.0.1:9002
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// nobody is the address of packets between a gateway and an endpoint that are no player's.
const nobody = "0.0.0.0:0"

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "host:port to listen on; with -network unix the path of the socket")
	network := flag.String("network", "websocket", "what gateways connect by: websocket, tcp or unix")
	name := flag.String("name", "endpoint", "name, shown in every reply")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := run(ctx, server.Network(*network), *listen, *name); err != nil {
		slog.Error("endpoint failed", "err", err)
		os.Exit(1)
	}
}

// run serves gateways until ctx is done.
func run(ctx context.Context, network server.Network, listen, name string) error {
	scheme, ok := map[server.Network]string{
		server.NetworkWebsocket: "ws", server.NetworkTcp: "tcp", server.NetworkUnix: "unix",
	}[network]
	if !ok {
		return fmt.Errorf("network %q: want websocket, tcp or unix", network)
	}
	// WithLinks: the connections are links of gateways, which carry many players each and a header before each packet.
	srv := server.New(network, server.WithLinks())
	srv.RegMessageReadyEvent(func(srv *server.Server) { fmt.Printf("%s listens on %s\n", name, url(scheme, srv.Addr())) })
	srv.RegConnectionOpenedEvent(func(_ *server.Server, link *server.Conn) {
		slog.Info("a gateway has linked", "link", link.GetID())
	})
	srv.RegConnectionClosedEvent(func(_ *server.Server, link *server.Conn, err any) {
		slog.Info("a gateway's link has ended", "link", link.GetID(), "err", err)
	})
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, link *server.Conn, data []byte) { answer(name, link, data) })
	context.AfterFunc(ctx, srv.Shutdown)
	if err := srv.Run(listen); !errors.Is(err, server.ErrServerClosed) { // Ctrl-C came before Run
		return err
	}
	return nil
}

// url is how the file of examples/gateway names the address.
func url(scheme string, addr net.Addr) string {
	if scheme == "ws" {
		return "ws://" + addr.String() + "/"
	}
	return scheme + "://" + addr.String()
}

// answer handles what a gateway sends: a header that says whose packet it is, and the packet.
func answer(name string, link *server.Conn, data []byte) {
	player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
	if err != nil { // whoever this is, it doesn't speak our language
		slog.Warn("not a packet of a gateway", "link", link.GetID(), "err", err)
		link.Close(err)
		return
	}
	if player == nobody {
		return
	}
	slog.Info("packet", "player", player, "bytes", len(packet))

	// The reply goes back over the link that the packet came from, with the player's address before it. The stamp is the
	// endpoint's own: the gateway carries it and doesn't look at it.
	reply, err := gateway.MarshalGatewayInPacket(player, time.Now().Unix(), append([]byte(name+": "), packet...))
	if err != nil {
		slog.Warn("no reply possible", "player", player, "err", err)
		return
	}
	link.Write(reply, func(err error) {
		if err != nil {
			slog.Warn("reply not written", "player", player, "err", err)
		}
	})
}
