// Command quickstart shows a gateway at work, in one process and over real sockets: 300 bots hold numbered conversations
// with two game servers, A and B, while A is killed and comes back, and while everybody is moved from B to A. Every
// reply is checked: it has to reach the bot that asked, once, in order.
//
//	go run ./examples/quickstart           12 seconds, then a summary; the exit code is 1 if anything was wrong
//	go run ./examples/quickstart -serve    the same again and again until Ctrl-C, with a page for your browser
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

const (
	webSocketBots = 200
	tcpBots       = 100

	// The story, in seconds. With -serve it begins anew when it has ended.
	killA      = 3
	restartA   = 6
	switchToA  = 9
	storyEnds  = 12
	patience   = 10 * time.Second // for links to come up, and for everything to end
	anyPort    = "127.0.0.1:0"
	gamePath   = "/ws"
	gameServer = "game" // the name that both endpoints have
)

func main() {
	serve := flag.Bool("serve", false, "keep going until Ctrl-C, and serve a page that talks to the gateway")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelWarn) // what the story tells anyway is logged as information

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	s := &show{report: newReport(os.Stdout), second: time.Second}
	if err := s.run(ctx, *serve); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
	if !s.report.summary() {
		os.Exit(1)
	}
}

// show is everything that runs.
type show struct {
	report *report
	second time.Duration // the story's; tests are in a hurry
	a, b   *backend
	fronts []*front // the first one for WebSocket
	crowd  *crowd
	page   *page // with -serve
}

func (s *show) run(ctx context.Context, serve bool) error {
	err := s.open(ctx, serve)
	if err == nil {
		s.crowd = newCrowd(s.report)
		for range tcpBots { // mixed, so that the oldest bots, which leave first, are of both kinds
			s.crowd.join(s.fronts[0], webSocketBots/tcpBots)
			s.crowd.join(s.fronts[1], 1)
		}
		err = s.play(ctx, serve)
		s.crowd.leave()
	}
	return errors.Join(err, s.close())
}

// open starts the endpoints, a gateway for WebSocket and one for TCP, and the page.
func (s *show) open(ctx context.Context, serve bool) (err error) {
	if s.a, err = startBackend("A", server.NetworkWebsocket); err != nil {
		return err
	}
	if s.b, err = startBackend("B", server.NetworkTcp); err != nil {
		return err
	}
	var options []server.Option
	var listener net.Listener
	if serve {
		if listener, err = net.Listen("tcp", anyPort); err != nil {
			return err
		}
		// A browser tells where its page is from, and a gateway accepts its own origin only, unless others are listed.
		options = append(options, server.WithWebsocketOrigins("http://"+listener.Addr().String()))
	}
	for _, network := range []server.Network{server.NetworkWebsocket, server.NetworkTcp} {
		f, err := startFront(ctx, network, s.a, s.b, s.report, options...)
		if f != nil {
			s.fronts = append(s.fronts, f)
		}
		if err != nil {
			return errors.Join(err, closeListener(listener))
		}
	}
	if serve {
		s.page = startPage(listener, s.fronts[0].url())
		s.report.say("open %s in a browser; Ctrl-C ends it", s.page.url)
	}
	return nil
}

func closeListener(listener net.Listener) error {
	if listener == nil {
		return nil
	}
	return listener.Close()
}

// play tells the story, once or again and again until ctx is done.
func (s *show) play(ctx context.Context, again bool) error {
	tick := time.NewTicker(s.second)
	defer tick.Stop()
	for second := 1; ; second++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s.crowd.churn()
		s.report.second(s.fronts)
		switch second % storyEnds {
		case killA:
			s.report.say("A is killed: all its links are cut, and nobody listens at %s any more", s.a.address)
			s.a.kill()
		case restartA:
			s.report.say("A is back at %s", s.a.address)
			if err := s.a.start(s.a.address); err != nil {
				return err
			}
		case switchToA:
			s.report.say("SwitchEndpoint: everybody on B goes on with A; new players are welcome on both")
			for _, f := range s.fronts {
				f.gw.SwitchEndpoint(f.b, f.a)
			}
		case 0:
			if !again {
				return nil
			}
		}
	}
}

// close ends everything in order: the page, the gateways, which flush to clients and endpoints, then the endpoints.
func (s *show) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	if s.page != nil {
		errs = append(errs, s.page.close(ctx))
	}
	for _, f := range s.fronts {
		errs = append(errs, f.close(ctx))
	}
	for _, b := range []*backend{s.a, s.b} {
		if b != nil {
			errs = append(errs, b.stop())
		}
	}
	return errors.Join(errs...)
}
