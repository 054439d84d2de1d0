package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	linksPerBackend = 2
	gamePath        = "/ws"
)

// front is the gateway that players connect to. It knows neither dots nor JSON.
type front struct {
	*service
	gw *gateway.Gateway
}

// startFront runs a gateway and returns when it listens and all its links are up.
func startFront(ctx context.Context, host string, backends []*backend, options ...server.Option) (*front, error) {
	var endpoints []*gateway.Endpoint
	for _, b := range backends {
		endpoints = append(endpoints, gateway.NewEndpoint(roomName, b.client(), gateway.WithEndpointConnectionPoolSize(linksPerBackend)))
	}
	f := &front{gw: gateway.NewGateway(server.New(server.NetworkWebsocket, options...),
		gateway.NewStaticScanner(endpoints...), gateway.WithEndpointSelector(gateway.FewestSessionsSelector()))}
	f.gw.RegConnectionReceivePacketEventHandle(fromPlayer)
	f.gw.RegEndpointConnectReceivePacketEventHandle(fromBackend)
	var links atomic.Int32
	up := make(chan struct{})
	f.gw.RegEndpointConnectOpenedEventHandle(func(*gateway.Gateway, *gateway.Endpoint) {
		if int(links.Add(1)) == len(endpoints)*linksPerBackend {
			close(up)
		}
	})
	var err error
	if f.service, err = start(f.gw.Server(), f.gw.Run, net.JoinHostPort(host, "0")+gamePath); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-up:
		return f, nil
	case <-ctx.Done():
		return f, fmt.Errorf("gateway: links not up: %w", ctx.Err())
	}
}

// url is where the page and the bots connect.
func (f *front) url() string { return "ws://" + f.address + gamePath }

// fromPlayer forwards to the backend that the player is on, or to one that is chosen for a new player.
func fromPlayer(g *gateway.Gateway, conn *server.Conn, packet []byte) {
	endpoint, err := g.GetConnEndpoint(roomName, conn)
	if err != nil {
		conn.CloseWith(4000, "no backend takes players", err)
		return
	}
	endpoint.Forward(conn, packet, func(err error) {
		if err != nil {
			slog.Warn("not forwarded", "conn", conn.GetID(), "err", err)
		}
	})
}

// fromBackend brings to a player what its backend writes to it alone. Casts don't pass here: they go from the link straight
// to the players' queues.
func fromBackend(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
	conn.Write(packet)
}

func (f *front) close(ctx context.Context) error {
	if err := f.gw.ShutdownContext(ctx); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return <-f.ended
}
