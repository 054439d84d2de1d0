// Command room shows a game on a gateway, in one process and over real sockets: players move dots about in a room that two
// backends, A and B, share. A button on the page drains a backend while people play: everybody on it goes on with the other
// one, at the place where they were, over the same connection.
//
//	go run ./examples/room                  until Ctrl-C; the first line is the address of the page
//	go run ./examples/room -duration 6s     drains A in the middle, checks what the bots see, and ends; the exit code is 1 if
//	                                        anything was wrong
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "host:port of the page; the gateway takes another port of that host")
	flag.IntVar(&o.bots, "bots", 8, "how many simulated players walk about")
	flag.DurationVar(&o.duration, "duration", 0, "end after this time, with A drained in the middle; 0: at Ctrl-C")
	flag.Parse()
	slog.SetLogLoggerLevel(slog.LevelWarn) // what is printed anyway is logged as information

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	ok, err := run(ctx, os.Stdout, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "room:", err)
	}
	if err != nil || !ok && o.duration > 0 {
		os.Exit(1)
	}
}

type options struct {
	listen   string
	bots     int
	duration time.Duration // 0: until the context is done
}
