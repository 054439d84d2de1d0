package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// newEcho returns an endpoint that sends every packet back as it is, to players behind gateways and to direct clients.
func newEcho(network server.Network) *server.Server {
	srv := server.New(network)
	gateway.NewBackend(srv)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, player *server.Conn, packet []byte) { player.Write(packet) })
	return srv
}

// serveEcho serves gateways until ctx is done.
func serveEcho(ctx context.Context, listen string, stdout io.Writer) error {
	srv := newEcho(server.NetworkTcp)
	srv.RegMessageReadyEvent(func(srv *server.Server) { fmt.Fprintf(stdout, "echo listens on tcp://%s\n", srv.Addr()) })
	stop := context.AfterFunc(ctx, srv.Shutdown)
	defer stop()
	if err := srv.Run(listen); !errors.Is(err, server.ErrServerClosed) { // Ctrl-C came before Run
		return err
	}
	return nil
}
