package kcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Defaults.
const (
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultHalfOpen         = 1024 // sessions in their handshake
	DefaultHalfOpenPrefix   = 64   // of them from one /24, or /64
	DefaultMTU              = 1200 // bytes: what gets through every network that QUIC gets through
	DefaultServerWindow     = 256  // segments
	DefaultClientWindow     = 1024
	DefaultInterval         = 20 * time.Millisecond

	// DefaultServerPing and DefaultServerTimeout are those of WebSocket clients, DefaultClientPing and DefaultClientTimeout those of links.
	DefaultServerPing    = 15 * time.Second
	DefaultServerTimeout = 30 * time.Second
	DefaultClientPing    = 5 * time.Second
	DefaultClientTimeout = 10 * time.Second
)

// ErrBadOption is what Listen, and a client's Run, return, wrapped, for an option's bad value.
var ErrBadOption = errors.New("kcp: bad option")

// BlockCrypt encrypts datagrams; kcp-go has several.
type BlockCrypt = kcpgo.BlockCrypt

// Option configures a transport or a client.
type Option func(o *options)

type options struct {
	err error // the first bad value

	logger       *slog.Logger  // nil: the server's
	maxPacket    int           // 0: the server's
	writeTimeout time.Duration // 0: the server's
	clientOpts   []client.Option
	pingAfter    time.Duration
	deadAfter    time.Duration
	handshake    time.Duration
	halfOpen     int
	perPrefix    int

	nodelay, resend, nc int
	interval            time.Duration
	sendWindow          int
	receiveWindow       int
	mtu                 int
	crypt               func() (BlockCrypt, error)
	data, parity        int
	dial                func(ctx context.Context, addr string) (net.PacketConn, net.Addr, error)
}

func newOptions(window int, ping, dead time.Duration, list []Option) options {
	o := options{
		pingAfter: ping, deadAfter: dead, handshake: DefaultHandshakeTimeout,
		halfOpen: DefaultHalfOpen, perPrefix: DefaultHalfOpenPrefix,
		nodelay: 1, resend: 2, nc: 1, interval: DefaultInterval,
		sendWindow: window, receiveWindow: window, mtu: DefaultMTU, dial: dialUDP,
	}
	for _, option := range list {
		if option != nil {
			option(&o)
		}
	}
	return o
}

func (o *options) refuse(wrong bool, format string, args ...any) {
	if wrong && o.err == nil {
		o.err = fmt.Errorf("%w: %s", ErrBadOption, fmt.Sprintf(format, args...))
	}
}

// WithLogger sends what is logged to logger. nil: the server's, or slog.Default(), the default.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if o.logger = logger; logger != nil {
			o.clientOpts = append(o.clientOpts, client.WithLogger(logger))
		}
	}
}

// WithMaxPacketSize is the largest packet in bytes, of a client without a gateway's header of 64 bytes. Default: the server's, and of a
// client 1 MiB.
func WithMaxPacketSize(n int) Option {
	return func(o *options) {
		o.maxPacket = n
		o.clientOpts = append(o.clientOpts, client.WithMaxPacketSize(n))
		o.refuse(n <= 0, "largest packet of %d bytes", n)
	}
}

// WithWriteTimeout bounds each write: a peer that makes no room in the send window for so long is closed. Default: the server's, and
// of a client 5 s.
func WithWriteTimeout(d time.Duration) Option {
	return func(o *options) {
		o.writeTimeout = d
		o.clientOpts = append(o.clientOpts, client.WithWriteTimeout(d))
		o.refuse(d <= 0, "write timeout %v", d)
	}
}

// WithClientOptions gives a client options of package client that have nothing to do with the network, as WithWriteBytes and
// WithMaxPacketSize. A transport has no use for it.
func WithClientOptions(opts ...client.Option) Option {
	return func(o *options) { o.clientOpts = append(o.clientOpts, opts...) }
}

// WithHeartbeat has a peer asked for a sign of life after ping without one, and closed after dead without one. Default: of a transport 15
// and 30 s, of a client 5 and 10 s.
func WithHeartbeat(ping, dead time.Duration) Option {
	return func(o *options) {
		o.pingAfter, o.deadAfter = ping, dead
		o.refuse(ping <= 0 || dead <= ping, "heartbeat after %v, dead after %v", ping, dead)
	}
}

// WithHandshakeTimeout bounds the handshake; of a client it is the time to connect in. Default 5 s.
func WithHandshakeTimeout(d time.Duration) Option {
	return func(o *options) { o.handshake = d; o.refuse(d <= 0, "handshake timeout %v", d) }
}

// WithHalfOpen bounds the sessions of a transport that are in their handshake: all of them, and those from one IPv4 /24 or IPv6
// /64. Beyond that new ones are refused. Default 1024 and 64.
func WithHalfOpen(all, perPrefix int) Option {
	return func(o *options) {
		o.halfOpen, o.perPrefix = all, perPrefix
		o.refuse(all <= 0 || perPrefix <= 0, "%d half-open sessions, %d per prefix", all, perPrefix)
	}
}

// WithNoDelay tunes KCP, whose names these are: nodelay 1 resends sooner, interval is its clock, from 10 ms on, resend is how many
// acknowledgements of later segments make one lost (0: none do), nc 1 takes no heed of congestion. Default: 1, 20 ms, 2, 1. A
// session costs a little time at each interval, idle or not.
func WithNoDelay(nodelay int, interval time.Duration, resend, nc int) Option {
	return func(o *options) {
		o.nodelay, o.interval, o.resend, o.nc = nodelay, interval, resend, nc
		o.refuse(nodelay < 0 || nodelay > 1 || nc < 0 || nc > 1 || resend < 0, "nodelay %d, resend %d, nc %d", nodelay, resend, nc)
		o.refuse(interval < 10*time.Millisecond || interval > 5*time.Second, "interval %v: 10 ms to 5 s", interval)
	}
}

// WithWindow is how many segments of the MTU may be on their way, and may wait for this side to read them. Default: of a transport
// 256 each, of a client 1024.
func WithWindow(send, receive int) Option {
	return func(o *options) {
		o.sendWindow, o.receiveWindow = send, receive
		o.refuse(send < 1 || receive < 32 || send > 1<<15 || receive > 1<<15, "windows of %d and %d segments: 1, 32 to 32768", send, receive)
	}
}

// WithMTU is the largest datagram in bytes, without what encryption and error correction add. Default 1200, 1400 at the most.
func WithMTU(n int) Option {
	return func(o *options) { o.mtu = n; o.refuse(n < 256 || n > 1400, "mtu %d: 256 to 1400", n) }
}

// WithBlockCrypt encrypts datagrams, as kcp-go does it, on both sides alike. It is called for each session: a BlockCrypt of kcp-go
// serves one at a time.
func WithBlockCrypt(crypt func() (BlockCrypt, error)) Option {
	return func(o *options) { o.crypt = crypt }
}

// WithFEC sends parity datagrams after every data ones, from which lost ones are computed, on both sides alike. Default 0 and 0: none.
func WithFEC(data, parity int) Option {
	return func(o *options) {
		o.data, o.parity = data, parity
		o.refuse(data < 0 || parity < 0 || data+parity > 256 || (data == 0) != (parity == 0), "%d data and %d parity shards", data, parity)
	}
}

// WithDial makes the socket of a client, and tells the server's address on it. The client closes it. Default: a UDP socket that is
// connected to addr.
func WithDial(dial func(ctx context.Context, addr string) (net.PacketConn, net.Addr, error)) Option {
	return func(o *options) { o.dial = dial; o.refuse(dial == nil, "no dial") }
}

// block returns the encryption of one session, nil without any.
func (o *options) block() (BlockCrypt, error) {
	if o.crypt == nil {
		return nil, nil
	}
	return o.crypt()
}

// tune applies the options to a session.
func (o *options) tune(s *kcpgo.UDPSession) {
	//lint:ignore SA1019 stream mode is the only one without a limit of 255 fragments
	s.SetStreamMode(true)
	s.SetWriteDelay(false)
	s.SetNoDelay(o.nodelay, int(o.interval/time.Millisecond), o.resend, o.nc)
	s.SetWindowSize(o.sendWindow, o.receiveWindow)
	s.SetMtu(o.mtu)
}

// linkLimit is the largest packet of a client: a gateway's header is on top.
func linkLimit(n int) int { return n + frame.WriteHeadroom }
