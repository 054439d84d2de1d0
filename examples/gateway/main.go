// Command gateway carries the packets of players to the endpoints that a JSON file lists. The file is read every second:
// edit it while the gateway runs, and new players go to new endpoints.
//
//	go run ./examples/endpoint -name A
//	go run ./examples/endpoint -name B -network tcp -listen 127.0.0.1:9002
//	go run ./examples/gateway
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	scanInterval    = time.Second
	shutdownTimeout = 20 * time.Second

	// codePacketLost is a WebSocket close code from the range for applications (RFC 6455, section 7.4.2).
	codePacketLost = 4000
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8888", "host:port to listen on, for websocket with an optional /path; with -network unix the path of the socket")
	network := flag.String("network", "websocket", "what players connect by: websocket, tcp or unix")
	endpoints := flag.String("endpoints", "examples/gateway/endpoints.json", "file that lists the endpoints")
	name := flag.String("name", "game", "name of the endpoints that players are carried to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := run(ctx, server.Network(*network), *listen, *endpoints, *name); err != nil {
		slog.Error("gateway failed", "err", err)
		os.Exit(1)
	}
}

// run carries packets until ctx is done.
func run(ctx context.Context, network server.Network, listen, endpoints, name string) error {
	scheme, ok := map[server.Network]string{
		server.NetworkWebsocket: "ws", server.NetworkTcp: "tcp", server.NetworkUnix: "unix",
	}[network]
	if !ok {
		return fmt.Errorf("network %q: want websocket, tcp or unix", network)
	}
	if _, err := os.Stat(endpoints); err != nil { // later it may be missing for a moment, which is no reason to end
		return err
	}
	srv := server.New(network)
	srv.RegMessageReadyEvent(func(srv *server.Server) {
		path := ""
		if network == server.NetworkWebsocket {
			path = "/"
			if slash := strings.IndexByte(listen, '/'); slash >= 0 {
				path = listen[slash:]
			}
		}
		fmt.Printf("gateway listens on %s://%s%s\n", scheme, srv.Addr(), path)
	})
	gw := gateway.NewGateway(srv, gateway.NewFileScanner(endpoints, scanInterval))
	logComingAndLeaving(gw)
	carry(gw, name)

	ended := make(chan error, 1)
	go func() { ended <- gw.Run(listen) }()
	select {
	case err := <-ended: // it could not listen, or can't go on
		return err
	case <-ctx.Done():
	}
	slog.Info("shutting down")
	limited, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := gw.ShutdownContext(limited); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	if err := <-ended; !errors.Is(err, gateway.ErrGatewayClosed) { // Ctrl-C came before Run
		return err
	}
	return nil
}

// carry forwards the packets of players, and brings back what the endpoints send.
//
// This gateway doesn't know the game's packets. So it can't tell a player which packet was lost, and closes the
// connection instead: a player who connects anew knows where things stand. A gateway that knows its packets tells the
// player, see examples/quickstart.
func carry(gw *gateway.Gateway, name string) {
	lost := func(conn *server.Conn, err error) {
		if conn.IsClosed() || errors.Is(err, gateway.ErrConnectionNotFound) { // the player has left
			return
		}
		slog.Warn("packet not forwarded", "conn", conn.GetID(), "err", err)
		conn.CloseWith(codePacketLost, "packet lost", err)
	}
	gw.RegConnectionReceivePacketEventHandle(func(gw *gateway.Gateway, conn *server.Conn, packet []byte) {
		// The endpoint that the player is on, or one that is chosen by state for a new player.
		endpoint, err := gw.GetConnEndpoint(name, conn)
		if err != nil {
			lost(conn, err)
			return
		}
		endpoint.Forward(conn, packet, func(err error) {
			if err != nil {
				lost(conn, err)
			}
		})
	})
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		// A player who doesn't read is closed by the server; the closed event tells why.
		conn.Write(packet)
	})
}

func logComingAndLeaving(gw *gateway.Gateway) {
	gw.RegConnectionOpenedEventHandle(func(gw *gateway.Gateway, conn *server.Conn) {
		slog.Info("player has come", "conn", conn.GetID(), "online", gw.Server().GetOnlineCount())
	})
	// The server's own event knows the reason.
	gw.Server().RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) {
		slog.Info("player has left", "conn", conn.GetID(), "after", conn.GetOnlineTime().Round(time.Millisecond), "err", err)
	})
	gw.RegEndpointConnectOpenedEventHandle(func(_ *gateway.Gateway, endpoint *gateway.Endpoint) {
		slog.Info("link up", "endpoint", endpoint.GetName(), "address", endpoint.GetAddress(), "links", endpoint.Links())
	})
	gw.RegEndpointConnectClosedEventHandle(func(_ *gateway.Gateway, endpoint *gateway.Endpoint) {
		slog.Info("link down", "endpoint", endpoint.GetName(), "address", endpoint.GetAddress(), "links", endpoint.Links())
	})
}
