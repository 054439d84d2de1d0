package gateway_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

var benchNetworks = []server.Network{server.NetworkTcp, server.NetworkWebsocket}

// One packet after another, each there and back.
func BenchmarkRoundTrip(b *testing.B) {
	paths := []struct {
		name string
		make func(b *testing.B, network server.Network, size int) *path
	}{
		{"plain endpoint", func(b *testing.B, network server.Network, size int) *path {
			return newPath(b, network, server.EngineAuto, size, 1)
		}},
		{"plain endpoint, goroutines", func(b *testing.B, network server.Network, size int) *path {
			return newPath(b, network, server.EngineGoroutines, size, 1)
		}},
		{"backend", func(b *testing.B, network server.Network, size int) *path { return newBackendPath(b, network, size) }},
	}
	for _, network := range benchNetworks {
		for _, kind := range paths {
			b.Run(fmt.Sprintf("%s/%s", network, kind.name), func(b *testing.B) {
				sizes(b, func(b *testing.B, size int) {
					p := kind.make(b, network, size)
					for b.Loop() {
						if err := p.roundTrip(); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
	}
}

// What a packet costs at a backend, where a hundred come at once, and at a server that is an endpoint without being a backend.
func BenchmarkLink(b *testing.B) {
	for name, engine := range engines() {
		b.Run(name, func(b *testing.B) {
			const packets = 100
			p := newLinkPath(b, engine, 64, packets)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.roundTrip(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packets, "ns/packet")
		})
	}
}

// One packet of a backend to all of many clients, until the last one has it.
func BenchmarkCast(b *testing.B) {
	const clients = 1000
	for _, network := range benchNetworks {
		for _, size := range []int{32, 1 << 10} {
			b.Run(fmt.Sprintf("%s/%d clients/%d B", network, clients, size), func(b *testing.B) {
				backend, conns, all := newCrowd(b, network, clients)
				packet := make([]byte, size)
				buf := make([]byte, len(all[0].Received(packet)))
				cast := func() {
					require.NoError(b, backend.Cast(conns, packet))
					for _, c := range all {
						if _, err := io.ReadFull(c, buf); err != nil {
							b.Fatal(err)
						}
					}
				}
				cast()
				b.ReportAllocs()
				b.SetBytes(int64(size * clients))
				for b.Loop() {
					cast()
				}
			})
		}
	}
}

// newCrowd returns a backend, its conns, and the clients behind its gateway that they are of.
func newCrowd(b *testing.B, network server.Network, n int) (*gateway.Backend, []*server.Conn, []*gwtest.Raw) {
	srv := server.New(server.NetworkTcp, server.WithLinks(), server.WithLogger(silent))
	backend := gateway.NewBackend(srv, gateway.WithBackendLogger(silent))
	opened := make(chan *server.Conn, n)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, _ []byte) { opened <- conn })
	e := gateway.NewEndpoint("game", client.NewTCP(gwtest.Serve(b, srv, "127.0.0.1:0")))
	g := runPlain(b, network, server.EngineAuto, e)
	ready(b, 1, e)
	var conns []*server.Conn
	var all []*gwtest.Raw
	for range n {
		c := gwtest.DialRaw(b, network, g.address)
		_, err := c.Write(c.Sent([]byte("hello")))
		require.NoError(b, err)
		conns, all = append(conns, (<-opened).View()), append(all, c)
	}
	return backend, conns, all
}
