package client_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// Packets there and back over one link: one after another, and many that are under way at once.
func BenchmarkRoundTrip(b *testing.B) {
	for _, tt := range transports {
		for _, size := range []int{32, 1 << 10} {
			for _, window := range []int{1, 256} {
				b.Run(fmt.Sprintf("%s/%d B/%d at once", tt.name, size, window), func(b *testing.B) {
					srv := serveEcho(b, tt.network)
					c := tt.client(srv)
					back := make(chan struct{}, window)
					c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { back <- struct{}{} })
					require.NoError(b, c.Run())
					defer c.Close()
					packet := make([]byte, size)
					b.ReportAllocs()
					for range window {
						c.Write(packet)
					}
					for b.Loop() {
						<-back
						c.Write(packet)
					}
				})
			}
		}
	}
}

// serveEcho runs a server that sends back what it gets and notes nothing, and returns its address.
func serveEcho(t testing.TB, network server.Network) string {
	srv := server.New(network)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
	addr := "127.0.0.1:0"
	switch network {
	case server.NetworkUnix:
		addr = filepath.Join(t.TempDir(), "s")
	case server.NetworkWebsocket:
		addr += "/ws"
	}
	return gwtest.Serve(t, srv, addr)
}
