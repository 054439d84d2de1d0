package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

const (
	roomName = "room" // of both endpoints, and of the group that a backend casts to
	patience = 10 * time.Second
)

// room is everything that runs.
type room struct {
	report   *report
	backends []*backend // A, then B
	front    *front
	page     *page
	bots     sync.WaitGroup
}

// run opens the room, plays, and closes it. ok is false if a bot has seen something that is not as it should be.
func run(ctx context.Context, out io.Writer, o options) (ok bool, err error) {
	r := &room{report: newReport(out)}
	if err = r.open(ctx, o.listen); err == nil {
		r.report.say("open %s in a browser; Ctrl-C ends it", r.page.url)
		err = r.play(ctx, o)
	}
	if err = errors.Join(err, r.close()); err != nil {
		return false, err
	}
	return r.report.summary(), nil
}

// open starts the backends, the gateway and the page.
func (r *room) open(ctx context.Context, listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("listen on %q: name the host that the browser knows the page by", listen)
	}
	w := newWorld()
	for _, of := range []struct {
		name    string
		network server.Network
	}{{"A", server.NetworkTcp}, {"B", server.NetworkWebsocket}} {
		b, err := startBackend(of.name, of.network, w, r.report)
		if err != nil {
			return err
		}
		r.backends = append(r.backends, b)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	// A browser tells where its page is from, and a gateway accepts its own origin only, unless others are listed.
	origin := "http://" + net.JoinHostPort(host, port(listener))
	r.front, err = startFront(ctx, host, r.backends, server.WithWebsocketOrigins(origin))
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	r.page = startPage(listener, origin+"/", r.front.url(), r.backends)
	return nil
}

func port(listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String()) // a TCP listener's address has one
	return port
}

// play lets the bots in, and waits for the end.
func (r *room) play(ctx context.Context, o options) error {
	leave, cancel := context.WithCancel(context.Background()) // not ctx: bots see what they have sent through
	defer r.bots.Wait()
	defer cancel()
	for number := range o.bots {
		b := newBot(fmt.Sprintf("bot %d", number+1), r.front.url(), r.report)
		r.bots.Go(func() { b.run(leave) })
	}
	if o.duration <= 0 {
		<-ctx.Done()
		return nil
	}
	return r.story(ctx, o.duration/3)
}

// story drains A for one of three acts.
func (r *room) story(ctx context.Context, act time.Duration) error {
	a := r.backends[0]
	next := time.NewTicker(act)
	defer next.Stop()
	for step := 1; ; step++ {
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
		switch step {
		case 1:
			r.report.say("A drains")
			began := time.Now()
			d := a.drain()
			select {
			case <-d.done: // in patience, come what may
			case <-ctx.Done():
				return nil
			}
			if d.err != nil {
				return d.err
			}
			r.report.say("A is empty after %v", time.Since(began).Round(time.Millisecond))
		case 2:
			a.undrain()
			r.report.say("A takes players again")
		case 3:
			return nil
		}
	}
}

// close ends everything in order: the page, the gateway, which flushes to players and backends, then the backends.
func (r *room) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	if r.page != nil {
		errs = append(errs, r.page.close(ctx))
	}
	if r.front != nil {
		errs = append(errs, r.front.close(ctx))
	}
	for _, b := range r.backends {
		errs = append(errs, b.stop())
	}
	return errors.Join(errs...)
}
