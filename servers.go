package gateway

import (
	"fmt"
	"maps"
	"slices"

	"github.com/minotaur-gateway/gateway/server"
)

// listening is a server beside the first one, and where it listens.
type listening struct {
	addr string
	srv  *server.Server
}

// WithServers has the gateway accept clients of srv too, on addr: of another network, or another address, with options of its own. It
// may be given several times. Run runs all of its servers, and they end together: where one is shut down or fails, all do. Handlers, bindings, casts and
// moves are the same for all clients; Conn.GetServer tells where one has come from. A srv that is nil or the gateway's already is
// an error of Run.
func WithServers(addr string, srv *server.Server) Option {
	return func(g *Gateway) {
		if srv == nil || slices.Contains(g.Servers(), srv) {
			g.bad = fmt.Errorf("%w: server for %q: none, or one that the gateway has already", ErrBadOption, addr)
			return
		}
		g.more = append(g.more, listening{addr, srv})
	}
}

// Server returns the server that NewGateway was given.
func (g *Gateway) Server() *server.Server { return g.srv }

// Servers returns all servers of the gateway, the one that NewGateway was given first.
func (g *Gateway) Servers() []*server.Server {
	all := []*server.Server{g.srv}
	for _, m := range g.more {
		all = append(all, m.srv)
	}
	return all
}

// GetOnline returns the live connection with this ID, of whatever server, nil if there is none. Where connections of two networks come
// from one address, and so have the same ID, it is that of the first server that has one.
func (g *Gateway) GetOnline(id string) *server.Conn {
	for _, srv := range g.Servers() {
		if conn := srv.GetOnline(id); conn != nil {
			return conn
		}
	}
	return nil
}

// GetOnlineCount returns how many connections are live on all servers.
func (g *Gateway) GetOnlineCount() int {
	n := 0
	for _, srv := range g.Servers() {
		n += srv.GetOnlineCount()
	}
	return n
}

// Conns returns the gateway's connections, of all servers, in no order.
func (g *Gateway) Conns() []*server.Conn {
	var all []*server.Conn
	for _, srv := range g.Servers() {
		all = slices.AppendSeq(all, maps.Values(srv.GetOnlineAll()))
	}
	return all
}
