package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	tick      = 50 * time.Millisecond
	playerKey = "player" // of a conn's data
)

// backend is a game server. Players behind the gateway are conns of its server like any others: it doesn't see that there
// is a gateway, until it wants them to go elsewhere.
type backend struct {
	*service
	name    string // static, as are the next ones up to report
	network server.Network
	world   *world
	srv     *server.Server
	link    *gateway.Backend
	room    *gateway.Group
	report  *report

	quit  context.CancelFunc // ends ticking
	ticks sync.WaitGroup

	mu      sync.Mutex // guards the next
	leaving *drain     // nil: it works
}

// visitor is a player while it is on this backend. It belongs to the handlers of its conn, which run one at a time.
type visitor struct {
	player
	travels bool // it goes on elsewhere
}

func startBackend(name string, network server.Network, w *world, report *report) (b *backend, err error) {
	b = &backend{name: name, network: network, world: w, report: report}
	// WithLinks: its connections are links of gateways, which carry many players each.
	b.srv = server.New(network, server.WithLinks())
	b.link = gateway.NewBackend(b.srv, gateway.WithBackendName(name), gateway.WithMoveState(b.pack), gateway.LinksOnly())
	b.room = b.link.Group(roomName)
	b.srv.RegConnectionOpenedEvent(b.opened)
	b.srv.RegConnectionReceivePacketEvent(b.received)
	b.srv.RegConnectionClosedEvent(b.closed)
	if b.service, err = start(b.srv, b.srv.Run, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	w.setState(name, works)
	ctx, quit := context.WithCancel(context.Background())
	b.quit = quit
	b.ticks.Go(func() { b.run(ctx) })
	return b, nil
}

// client returns a client that connects the way links to this backend do.
func (b *backend) client() *client.Client {
	if b.network == server.NetworkWebsocket {
		return client.NewWebsocket("ws://" + b.address + "/")
	}
	return client.NewTCP(b.address)
}

// opened greets a player who has come from another backend with what that one has packed. Anybody else says hello first.
func (b *backend) opened(_ *server.Server, conn *server.Conn) {
	b.room.Join(conn)
	state := b.link.MoveState(conn)
	if state == nil {
		return
	}
	v := &visitor{}
	if err := json.Unmarshal(state, &v.player); err != nil {
		slog.Warn("state not understood", "backend", b.name, "conn", conn.GetID(), "err", err)
		return
	}
	b.report.moved()
	b.welcome(conn, v, true)
}

func (b *backend) welcome(conn *server.Conn, v *visitor, moved bool) {
	conn.SetData(playerKey, v)
	b.world.show(v.player, b.name)
	tell(conn, notice{You: v.ID, Backend: b.name, Moved: moved})
}

func tell(conn *server.Conn, n notice) {
	packet, err := json.Marshal(n)
	if err != nil {
		slog.Error("notice not written", "conn", conn.GetID(), "err", err)
		return
	}
	conn.Write(packet)
}

func (b *backend) received(_ *server.Server, conn *server.Conn, packet []byte) {
	var o order
	if err := json.Unmarshal(packet, &o); err != nil {
		conn.CloseWith(4001, "not understood", err)
		return
	}
	v, _ := conn.GetData(playerKey).(*visitor)
	switch {
	case o.Hello != "" && v == nil:
		v = &visitor{player: player{ID: b.world.newID(), Name: shortened(o.Hello), N: o.N, X: within(o.X), Y: within(o.Y)}}
		b.report.joined()
		b.welcome(conn, v, false)
	case o.Hello != "":
		v.Name = shortened(o.Hello)
		b.world.show(v.player, b.name)
	case v == nil: // the backend before this one has died, or had no time to pack
		b.report.lost(1)
		tell(conn, notice{Backend: b.name, Who: true})
	default:
		lost, late := v.move(o)
		b.report.lost(lost)
		if late {
			b.report.late()
			return
		}
		b.world.show(v.player, b.name)
	}
}

// pack is called when the gateway moves a player elsewhere, before the closed handler. What it returns is the next
// backend's MoveState.
func (b *backend) pack(conn *server.Conn) []byte {
	v, _ := conn.GetData(playerKey).(*visitor)
	if v == nil {
		return nil
	}
	state, err := json.Marshal(v.player)
	if err != nil {
		slog.Error("state not packed", "backend", b.name, "conn", conn.GetID(), "err", err)
		return nil
	}
	v.travels = true
	return state
}

// closed takes the player's dot away. The conn leaves the group by itself.
func (b *backend) closed(_ *server.Server, conn *server.Conn, _ any) {
	if v, _ := conn.GetData(playerKey).(*visitor); v != nil {
		b.world.leave(v.ID, b.name, v.travels)
	}
}

// run casts the room as it is to every player on this backend, at every tick: one packet for each of the gateway's links,
// however many players there are.
func (b *backend) run(ctx context.Context) {
	next := time.NewTicker(tick)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		packet, err := json.Marshal(b.world.picture())
		if err == nil {
			err = b.room.Cast(packet)
		}
		if err != nil {
			slog.Warn("nothing cast", "backend", b.name, "err", err)
			continue
		}
		b.report.cast()
	}
}

func (b *backend) stop() error {
	b.undrain()
	b.quit()
	b.ticks.Wait()
	b.srv.Shutdown()
	return <-b.ended
}
