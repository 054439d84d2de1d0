package client

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Defaults.
const (
	DefaultBufferSize    = 1 << 16 // packets that may be queued
	DefaultWriteBytes    = 4 << 20 // bytes that may be queued
	DefaultMaxPacketSize = 1 << 20 // bytes, without the header of a gateway's link
	DefaultDialTimeout   = 5 * time.Second
	DefaultWriteTimeout  = 5 * time.Second

	silenceBeforePing = 5 * time.Second // of a WebSocket server; dead when the ping is not answered for as long again
	lingerTimeout     = time.Second
	userPatience      = 50 * time.Millisecond // for a handler or callback, which may be who waits
	packetTimeout     = 30 * time.Second
	linkReadBuffer    = 32 << 10 // many packets are cut from one read
)

// Option configures a client; see NewWebsocket, NewTCP, NewUnixDomainSocket and NewUDP.
type Option func(o *options)

type options struct {
	logger       *slog.Logger
	framer       frame.Framer
	tls          *tls.Config
	useTLS       bool
	header       http.Header
	maxPacket    int
	writeBytes   int
	dialTimeout  time.Duration
	writeTimeout time.Duration
	dial         func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy        func(*http.Request) (*url.URL, error) // for WebSockets
}

func newOptions(list []Option) options {
	o := options{
		logger: slog.Default(), framer: frame.Default(), maxPacket: DefaultMaxPacketSize, writeBytes: DefaultWriteBytes,
		dialTimeout: DefaultDialTimeout, writeTimeout: DefaultWriteTimeout,
		dial: newDialer().DialContext, proxy: http.ProxyFromEnvironment,
	}
	for _, option := range list {
		if option != nil {
			option(&o)
		}
	}
	return o
}

// WithTLS connects over TLS with config, or with the system's roots where config is nil. A wss:// address needs it for
// a config of one's own only.
func WithTLS(config *tls.Config) Option {
	return func(o *options) { o.tls, o.useTLS = config, true }
}

// tlsFor is the configuration for a connection to host.
func (o *options) tlsFor(host string) *tls.Config {
	config := o.tls.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config.ServerName = host
	}
	return config
}

// WithFramer marks packets on TCP and Unix sockets by f; it has to be the server's. nil: a length of 4 bytes, big-endian, the default.
func WithFramer(f Framer) Option {
	return func(o *options) {
		if f != nil {
			o.framer = f
		}
	}
}

// WithMaxPacketSize is the largest packet in bytes, either way; a larger one from the server ends the connection, a
// larger one written gets ErrPacketTooLarge. A gateway's header comes on top of it. 0 or less: the default, 1 MiB.
func WithMaxPacketSize(n int) Option {
	return func(o *options) {
		if o.maxPacket = n; n <= 0 {
			o.maxPacket = DefaultMaxPacketSize
		}
	}
}

// WithWriteBytes bounds the outbound queue in bytes. 0 or less: the default, 4 MiB.
func WithWriteBytes(n int) Option {
	return func(o *options) {
		if o.writeBytes = n; n <= 0 {
			o.writeBytes = DefaultWriteBytes
		}
	}
}

// WithDialTimeout bounds connecting, handshakes included. 0 or less: the default, 5 s.
func WithDialTimeout(d time.Duration) Option {
	return func(o *options) {
		if o.dialTimeout = d; d <= 0 {
			o.dialTimeout = DefaultDialTimeout
		}
	}
}

// WithWriteTimeout bounds each write to the socket; a server that takes nothing for so long is disconnected. 0 or less: the default, 5 s.
func WithWriteTimeout(d time.Duration) Option {
	return func(o *options) {
		if o.writeTimeout = d; d <= 0 {
			o.writeTimeout = DefaultWriteTimeout
		}
	}
}

// WithHeader adds fields to the request that opens a WebSocket.
func WithHeader(header http.Header) Option { return func(o *options) { o.header = header.Clone() } }

// WithLogger sends what the client logs to logger. nil: slog.Default(), the default.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}
}

// Framer marks the packets on a byte stream; see WithFramer.
type Framer = frame.Framer

// LengthFramer returns a framer that puts a length field of width bytes (1, 2 or 4), in order (nil: big-endian), before
// each packet. Another width gives nil.
func LengthFramer(width int, order binary.ByteOrder) Framer {
	f, err := frame.Length(width, order)
	if err != nil {
		return nil
	}
	return f
}

// UvarintFramer returns a framer that puts the length before each packet as an unsigned varint, as encoding/binary has it.
func UvarintFramer() Framer { return frame.Uvarint() }

// LineFramer returns a framer for lines of text that end in "\n" or "\r\n".
func LineFramer() Framer { return frame.Line() }

// RawFramer returns the framer that keeps no packet boundaries: packets are chunks as reads return them. Links refuse it.
func RawFramer() Framer { return frame.Raw() }
