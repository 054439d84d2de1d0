package main

import "github.com/minotaur-gateway/gateway/server"

// service is a server or a gateway that runs on a goroutine of its own.
type service struct {
	address string     // where it listens: host:port
	ended   chan error // gets what Run returned, once
}

// start runs srv by run, which is srv.Run or that of its gateway, and returns when it listens.
func start(srv *server.Server, run func(addr string) error, addr string) (*service, error) {
	listening, ended := make(chan struct{}), make(chan error, 1)
	srv.RegMessageReadyEvent(func(*server.Server) { close(listening) })
	go func() { ended <- run(addr) }()
	select {
	case <-listening:
		return &service{address: srv.Addr().String(), ended: ended}, nil
	case err := <-ended:
		return nil, err
	}
}
