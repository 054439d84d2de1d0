package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Limits of the flags.
const (
	maxClients  = 1 << 20
	maxSize     = 1 << 20 // bytes, what the library's clients take unless told otherwise
	maxDatagram = 65507   // bytes, of UDP over IPv4
	maxSources  = 250
	maxTimeout  = time.Minute // what the histogram of latencies reaches to
)

// config is what the flags say.
type config struct {
	network  string // ws, tcp, udp or unix
	addr     string // a URL for ws, host:port for tcp and udp, a path for unix
	clients  int
	size     int     // bytes of each packet
	rate     float64 // packets a second of all clients together; 0: closed loop
	duration time.Duration
	warmup   time.Duration
	timeout  time.Duration // until a packet without its reply is lost
	sources  int           // loopback addresses to connect from
	pids     []int
	json     bool
	echo     string // serve an echo here, and measure nothing
}

func (c *config) closedLoop() bool { return c.rate == 0 }

// parseFlags returns what args say. Its errors name the flag and its value; help goes to w and gives flag.ErrHelp.
func parseFlags(args []string, w io.Writer) (*config, error) {
	cfg := &config{}
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is told once, without a page of help that hides it
	flags.Usage = func() {}
	addr := flags.String("addr", "ws://127.0.0.1:8888/", "where the clients connect: ws://host:port/path, wss://, tcp://host:port, udp://host:port, unix:///path; without a scheme -network says which")
	network := flags.String("network", "", "ws, tcp, udp or unix (default: what the scheme of -addr says, or ws)")
	rate := flags.String("rate", "closed", "packets a second, of all clients together; closed: each client sends its next packet once the reply has come")
	pids := flags.String("pids", "", "processes whose CPU time and memory to show, such as 123,456")
	flags.IntVar(&cfg.clients, "clients", 100, "how many clients connect")
	flags.IntVar(&cfg.size, "size", 64, "bytes of each packet")
	flags.DurationVar(&cfg.duration, "duration", 10*time.Second, "how long to measure")
	flags.DurationVar(&cfg.warmup, "warmup", 2*time.Second, "how long to play before that")
	flags.DurationVar(&cfg.timeout, "timeout", 5*time.Second, "a packet whose reply has not come after this long is lost")
	flags.IntVar(&cfg.sources, "sources", defaultSources(), "how many addresses 127.0.0.x to connect from, when the target is one too")
	flags.BoolVar(&cfg.json, "json", false, "print the result as JSON")
	flags.StringVar(&cfg.echo, "echo", "", "serve an echo for gateways on this host:port (TCP) until Ctrl-C, and measure nothing")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(w)
		flags.PrintDefaults()
		return nil, err
	} else if err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag; -h lists them", flags.Arg(0))
	}
	return cfg, errors.Join(cfg.setTarget(*network, *addr), cfg.setRate(*rate), cfg.setPIDs(*pids), cfg.check())
}

// defaultSources is 1 where the system answers on 127.0.0.1 only.
func defaultSources() int {
	if runtime.GOOS == "linux" {
		return 16
	}
	return 1
}

// setTarget splits the scheme off addr.
func (c *config) setTarget(network, addr string) error {
	scheme, rest, named := strings.Cut(addr, "://")
	if !named {
		scheme, rest = network, addr
		if scheme == "" {
			scheme = "ws"
		}
	}
	c.network, c.addr = scheme, rest
	if scheme == "wss" {
		c.network = "ws"
	}
	if network != "" && network != c.network {
		return fmt.Errorf("-addr %q is not of -network %q", addr, network)
	}
	switch c.network {
	case "ws":
		c.addr = scheme + "://" + rest
		if u, err := url.Parse(c.addr); err != nil || u.Host == "" {
			return fmt.Errorf("-addr %q: want %s://host:port/path", addr, scheme)
		}
	case "tcp", "udp":
		if _, port, err := net.SplitHostPort(rest); err != nil || port == "" {
			return fmt.Errorf("-addr %q: want host:port", addr)
		}
	case "unix":
		if rest == "" {
			return fmt.Errorf("-addr %q: want the path of a socket", addr)
		}
	default:
		return fmt.Errorf("network %q: want ws, tcp, udp or unix", c.network)
	}
	return nil
}

func (c *config) setRate(value string) error {
	if value == "closed" {
		return nil
	}
	rate, err := strconv.ParseFloat(value, 64)
	if err != nil || !(rate > 0) || math.IsInf(rate, 0) {
		return fmt.Errorf("-rate %q: want packets a second, or closed", value)
	}
	c.rate = rate
	return nil
}

func (c *config) setPIDs(list string) error {
	if list == "" {
		return nil
	}
	for value := range strings.SplitSeq(list, ",") {
		pid, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || pid <= 0 {
			return fmt.Errorf("-pids %q: %q is no process id", list, value)
		}
		if _, err := readUsage(pid); err != nil {
			return fmt.Errorf("-pids %q: %w", list, err)
		}
		c.pids = append(c.pids, pid)
	}
	return nil
}

// check looks at the numbers.
func (c *config) check() error {
	limit := maxSize
	if c.network == "udp" {
		limit = maxDatagram
	}
	switch {
	case c.clients < 1 || c.clients > maxClients:
		return fmt.Errorf("-clients %d: want 1 to %d", c.clients, maxClients)
	case c.size < headerSize || c.size > limit:
		return fmt.Errorf("-size %d: want %d to %d", c.size, headerSize, limit)
	case c.duration <= 0:
		return fmt.Errorf("-duration %v: want more than 0", c.duration)
	case c.warmup < 0:
		return fmt.Errorf("-warmup %v: want 0 or more", c.warmup)
	case c.timeout < time.Millisecond || c.timeout > maxTimeout:
		return fmt.Errorf("-timeout %v: want 1ms to %v", c.timeout, maxTimeout)
	case c.sources < 1 || c.sources > maxSources:
		return fmt.Errorf("-sources %d: want 1 to %d", c.sources, maxSources)
	}
	return nil
}
