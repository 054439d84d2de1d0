package kcp_test

import (
	"fmt"
	"time"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

func ExampleNewTransport() {
	srv := server.New(server.NetworkKcp, server.WithTransport(kcp.NewTransport(kcp.WithHeartbeat(10*time.Second, 20*time.Second))))
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		conn.Write(append([]byte("echo: "), packet...))
	})
	listening, ended := make(chan struct{}), make(chan error, 1)
	srv.RegMessageReadyEvent(func(*server.Server) { close(listening) })
	go func() { ended <- srv.Run("127.0.0.1:0") }()
	<-listening

	bot := kcp.NewClient(srv.Addr().String())
	replies := make(chan string, 1)
	bot.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { replies <- string(packet) })
	if err := bot.Run(); err != nil {
		fmt.Println(err)
		return
	}
	bot.Write([]byte("hello"))
	fmt.Println(<-replies)
	bot.Close()

	srv.Shutdown()
	fmt.Println(<-ended)
	// Output:
	// echo: hello
	// <nil>
}
