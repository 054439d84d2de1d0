// Command loadtest measures a gateway, with an echo behind it, from its clients' side: messages a second, latencies, and
// whether every reply is the right one. README.md beside it tells how.
//
//	go run ./examples/loadtest -echo 127.0.0.1:9002
//	go run ./examples/gateway
//	go run ./examples/loadtest -addr ws://127.0.0.1:8888/ -clients 1000 -rate 20000 -duration 10s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitFine  = 0
	exitWrong = 1 // nothing could be measured, or some packet or connection fared ill
	exitFlags = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs until it is done, or ctx is, and returns the exit code. Results go to stdout, progress and errors to stderr.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitFine
	}
	if err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitFlags
	}
	if cfg.echo != "" {
		err = serveEcho(ctx, cfg.echo, stdout)
	} else {
		var res *result
		if res, err = measure(ctx, cfg, stderr); err == nil {
			return report(res, cfg.json, stdout, stderr)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitWrong
	}
	return exitFine
}

func report(res *result, asJSON bool, stdout, stderr io.Writer) int {
	write := res.writeText
	if asJSON {
		write = res.writeJSON
	}
	if err := write(stdout); err != nil {
		fmt.Fprintln(stderr, "loadtest: write the result:", err)
		return exitWrong
	}
	if !res.fine() {
		return exitWrong
	}
	return exitFine
}
