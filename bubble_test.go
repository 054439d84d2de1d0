package gateway_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/server"
)

// world is a gateway, its endpoints and its clients on a network in memory, inside a synctest bubble: time passes only
// when everybody waits.
type world struct {
	t   *testing.T
	net *gatewaytest.Network
	*gateway.Gateway
	scans atomic.Int32
	ended chan error
}

// found is what a scan returns.
type found struct {
	endpoints []*gateway.Endpoint
	err       error
}

// inWorld plays in a bubble with a gateway that asks scan, which may be changed while it runs.
func inWorld(t *testing.T, interval time.Duration, scan func(w *world) found, play func(w *world), options ...gateway.Option) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: gatewaytest.NewNetwork(), ended: make(chan error, 1)}
		scanner := gateway.NewFuncScanner(interval, func() ([]*gateway.Endpoint, error) {
			w.scans.Add(1)
			f := scan(w)
			return f.endpoints, f.err
		})
		w.serve(scanner, options...)
		play(w)
		w.Shutdown()
		assert.NoError(t, <-w.ended)
	})
}

// serve runs a gateway that carries packets between clients and the endpoint "game".
func (w *world) serve(scanner gateway.Scanner, options ...gateway.Option) {
	srv := w.net.Server()
	quiet := gateway.WithLogger(slog.New(slog.DiscardHandler))
	w.Gateway = gateway.NewGateway(srv, scanner, append([]gateway.Option{quiet}, options...)...)
	w.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := g.GetConnEndpoint("game", conn); err == nil {
			e.Forward(conn, packet)
		}
	})
	w.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	go func() { w.ended <- w.Run("gateway") }()
	synctest.Wait()
}

// backend runs an echo at addr that answers after delay, and returns what stops it.
func (w *world) backend(addr string, delay *atomic.Int64) (stop func()) {
	srv := w.net.Server(server.WithLinks())
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		client, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		assert.NoError(w.t, err)
		if delay != nil {
			time.Sleep(time.Duration(delay.Load()))
		}
		answer, err := gateway.MarshalGatewayInPacket(client, 0, packet)
		assert.NoError(w.t, err)
		conn.Write(answer)
	})
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(addr) }()
	synctest.Wait()
	stop = func() {
		srv.Shutdown()
		assert.NoError(w.t, <-ended)
	}
	return stop
}

func (w *world) endpoint(addr string, options ...gateway.EndpointOption) *gateway.Endpoint {
	return gateway.NewEndpoint("game", w.net.Client(addr), append(options, gateway.WithPlainLinks())...)
}

// join connects a client whose packets come to got.
func (w *world) join() (cli *client.Client, got chan []byte) {
	cli, got = w.net.Client("gateway"), make(chan []byte, 100)
	cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { got <- packet })
	assert.NoError(w.t, cli.Run())
	synctest.Wait()
	return cli, got
}

// known returns the addresses of the endpoints that the gateway knows.
func (w *world) known() []string {
	synctest.Wait()
	all := []string{}
	for e := range w.Endpoints() {
		all = append(all, e.GetAddress())
	}
	return all
}

var errRegistry = errors.New("registry down")

var quiet = slog.New(slog.DiscardHandler)

// memHost is a backend on a network in memory.
type memHost struct {
	*gateway.Backend
	srv    *server.Server
	opened atomic.Int32
	got    atomic.Int32
}

func runMemHost(t *testing.T, net *gatewaytest.Network, addr string, options ...gateway.BackendOption) (h *memHost, stop func()) {
	h = &memHost{srv: net.Server(server.WithLogger(quiet))}
	h.Backend = gateway.NewBackend(h.srv, append(options, gateway.WithBackendLogger(quiet))...)
	h.srv.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { h.opened.Add(1) })
	h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { h.got.Add(1); conn.Write(packet) })
	ended := make(chan error, 1)
	go func() { ended <- h.srv.Run(addr) }()
	synctest.Wait()
	return h, func() { h.srv.Shutdown(); assert.NoError(t, <-ended) }
}
