package main

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	linksPerEndpoint  = 2
	reconnectInterval = 250 * time.Millisecond

	// refusal is the sender of what the gateway itself tells a player: "! " and a packet that it could not forward.
	refusal = "!"
)

// front is a gateway for players of one network, and what it knows about their open messages.
//
// A packet that can't be forwarded goes back to its player, who sends it again. That is sound because an error from
// Forward means that no endpoint got the packet, so that it can't be answered twice; and because the player decides
// about the order. The gateway's sending it again by itself would let the player's next packet overtake it.
type front struct {
	*service
	network server.Network
	gw      *gateway.Gateway
	a, b    *gateway.Endpoint // this gateway's own: an Endpoint belongs to one gateway
	report  *report
	open    *ledger
	closing atomic.Bool
}

// startFront runs a gateway and returns when it listens and all its links are up.
func startFront(ctx context.Context, network server.Network, a, b *backend, report *report, options ...server.Option) (*front, error) {
	f := &front{network: network, a: newEndpoint(a), b: newEndpoint(b), report: report, open: newLedger()}
	f.gw = gateway.NewGateway(server.New(network, options...), gateway.NewStaticScanner(f.a, f.b))
	f.gw.RegConnectionReceivePacketEventHandle(f.fromPlayer)
	f.gw.RegEndpointConnectReceivePacketEventHandle(f.fromEndpoint)
	f.gw.RegConnectionClosedEventHandle(func(_ *gateway.Gateway, conn *server.Conn) { f.open.forget(conn.GetID()) })
	f.gw.RegEndpointConnectClosedEventHandle(f.linkLost)
	var links atomic.Int32
	up := make(chan struct{})
	f.gw.RegEndpointConnectOpenedEventHandle(func(*gateway.Gateway, *gateway.Endpoint) {
		if links.Add(1) == 2*linksPerEndpoint {
			close(up)
		}
	})

	addr := anyPort
	if network == server.NetworkWebsocket {
		addr += gamePath
	}
	var err error
	if f.service, err = start(f.gw.Server(), f.gw.Run, addr); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-up:
		return f, nil
	case <-ctx.Done():
		return f, fmt.Errorf("gateway for %s: links not up: %w", network, ctx.Err())
	}
}

func newEndpoint(b *backend) *gateway.Endpoint {
	return gateway.NewEndpoint(gameServer, b.client(), gateway.WithEndpointConnectionPoolSize(linksPerEndpoint),
		gateway.WithEndpointReconnectInterval(reconnectInterval))
}

// url is where browsers and WebSocket bots connect.
func (f *front) url() string { return "ws://" + f.address + gamePath }

// client returns a client that connects to the gateway as a player.
func (f *front) client() *client.Client {
	if f.network == server.NetworkWebsocket {
		return client.NewWebsocket(f.url())
	}
	return client.NewTCP(f.address)
}

// fromPlayer forwards a player's packet to the endpoint that the player is on, or to one that is chosen for a new player.
func (f *front) fromPlayer(g *gateway.Gateway, conn *server.Conn, packet []byte) {
	endpoint, err := g.GetConnEndpoint(gameServer, conn)
	if err != nil { // no endpoint is usable
		f.refuse(conn, packet)
		return
	}
	m := message{conn.GetID(), string(packet)}
	f.open.forwarding(m, endpoint)
	endpoint.Forward(conn, packet, func(err error) {
		if err != nil {
			f.open.end(m)
			f.refuse(conn, packet)
			return
		}
		f.open.written(m)
	})
}

func (f *front) refuse(conn *server.Conn, packet []byte) {
	f.write(conn, append([]byte(refusal+" "), packet...))
}

// fromEndpoint brings a reply to its player.
func (f *front) fromEndpoint(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
	if _, text, ok := bytes.Cut(packet, []byte(" ")); ok {
		f.open.end(message{conn.GetID(), string(text)})
	}
	f.write(conn, packet)
}

func (f *front) write(conn *server.Conn, packet []byte) {
	conn.Write(packet, func(err error) {
		if err != nil {
			f.report.unwritten()
		}
	})
}

// linkLost runs when a link has ended, after every packet of that link has got its Forward's callback and after the
// last reply that came over it was delivered. So once an endpoint has no link left, what was written to it and is still
// open is exactly what was in flight when the endpoint died.
func (f *front) linkLost(_ *gateway.Gateway, endpoint *gateway.Endpoint) {
	if endpoint.Links() > 0 {
		return
	}
	lost := f.open.lose(endpoint)
	f.report.inFlight(lost)
	if f.closing.Load() { // which closes links too
		return
	}
	f.report.say("the gateway for %s has lost %s, with %d messages in flight", f.network, endpoint.GetAddress(), len(lost))
}

func (f *front) close(ctx context.Context) error {
	f.closing.Store(true)
	if err := f.gw.ShutdownContext(ctx); err != nil {
		return fmt.Errorf("gateway for %s: %w", f.network, err)
	}
	stats := f.gw.Stats()
	f.report.dropped(stats.DroppedUnknown + stats.DroppedNotOpen + stats.DroppedMalformed + stats.DroppedControl)
	return <-f.ended
}
