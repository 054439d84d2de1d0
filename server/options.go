package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// The WebSocket message types (RFC 6455, section 11.8).
const (
	WebsocketMessageTypeText   = frame.KindText
	WebsocketMessageTypeBinary = frame.KindBinary
	WebsocketMessageTypeClose  = frame.KindClose
	WebsocketMessageTypePing   = frame.KindPing
	WebsocketMessageTypePong   = frame.KindPong
)

// Defaults.
const (
	DefaultWebsocketReadDeadline = 30 * time.Second // of silence; pings at half of it keep a living client
	DefaultPacketWarnSize        = 1 << 20          // bytes
	DefaultConnWriteBufferSize   = 1024             // packets
	DefaultConnWriteBufferBytes  = 256 << 10        // bytes
	DefaultMaxPacketSize         = 64 << 10         // bytes, of a packet from a client
	DefaultWriteTimeout          = 5 * time.Second
	DefaultShutdownTimeout       = 10 * time.Second
)

const (
	handshakeTimeout = 5 * time.Second  // for TLS and HTTP heads
	packetTimeout    = 30 * time.Second // for the rest of a packet on a stream
	lingerTimeout    = time.Second      // for the peer to end after we did
	maxWriteSize     = 1<<20 + frame.WriteHeadroom
	mailboxBytes     = 256 << 10
	maxRequestHead   = 4 << 10
)

// Option configures a Server; see New. A bad value is an error of Run unless the option says otherwise.
type Option func(srv *Server)

type options struct {
	err error // the first bad value

	logger       *slog.Logger
	deadlock     time.Duration
	lowDuration  time.Duration
	limitLife    time.Duration
	shutdown     time.Duration
	writeTimeout time.Duration
	warnSize     int
	maxPacket    int
	headroom     int // bytes beyond maxPacket, for a gateway's header
	firstPacket  int // bytes that the first packet may have at least
	queuePackets int
	queueBytes   int
	listenConfig net.ListenConfig
	udp          udpOptions
	tls          *tls.Config
	certFile     string
	keyFile      string
	framer       frame.Framer
	transport    Transport
	proxies      proxies
	subprotocol  string // the layer's
	engine       Engine
	eventLoops   int    // how many; 0: the default
	loops        *loops // of the Run going on; nil: goroutines serve
	limits       limits
	admit        Admission // nil: everybody is let in
	admitWithin  time.Duration
	async        bool
	serial       bool

	wsDeadline    time.Duration
	wsUpgrader    *websocket.Upgrader
	wsInit        func(http.ResponseWriter, *http.Request, *websocket.Conn) error
	wsTypes       []int
	wsOrigins     []string
	wsCompression int // level; 0: none offered
	wsCompress    bool
}

func defaultOptions() options {
	return options{
		logger: slog.Default(), shutdown: DefaultShutdownTimeout, writeTimeout: DefaultWriteTimeout,
		warnSize: DefaultPacketWarnSize, maxPacket: DefaultMaxPacketSize, queuePackets: DefaultConnWriteBufferSize,
		limits: limits{connections: DefaultMaxConnections}, queueBytes: DefaultConnWriteBufferBytes, framer: frame.Default(), wsDeadline: DefaultWebsocketReadDeadline,
	}
}

func (o *options) refuse(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf("%w: %s", ErrBadOption, fmt.Sprintf(format, args...))
	}
}

// WithDeadlockDetect reports, in the log, each handler that runs longer than d, with its connection and event. 0 or less: off, the default.
func WithDeadlockDetect(d time.Duration) Option { return func(s *Server) { s.opts.deadlock = d } }

// WithLowMessageDuration logs each packet whose handlers took longer than d, once they have ended. 0 or less: off, the default.
func WithLowMessageDuration(d time.Duration) Option {
	return func(s *Server) { s.opts.lowDuration = d }
}

// WithListenConfig has Run listen by config: its Control sets socket options, SO_REUSEPORT for one, its KeepAliveConfig those of TCP.
func WithListenConfig(config net.ListenConfig) Option {
	return func(s *Server) { s.opts.listenConfig = config }
}

// WithLimitLife shuts the server down d after Run began. 0 or less: never, the default.
func WithLimitLife(d time.Duration) Option { return func(s *Server) { s.opts.limitLife = d } }

// WithShutdownTimeout bounds how long connections have to be flushed and closed after Shutdown; then they are cut. Where handlers don't
// return even so, Run does a second later, on event loops 3 s later, with ErrShutdownTimeout. Default 10 s.
func WithShutdownTimeout(d time.Duration) Option {
	return func(s *Server) {
		if s.opts.shutdown = d; d <= 0 {
			s.opts.refuse("shutdown timeout %v", d)
		}
	}
}

// WithWriteTimeout bounds each write to a client's socket; a client that takes none of it for so long is closed. Default 5 s.
func WithWriteTimeout(d time.Duration) Option {
	return func(s *Server) {
		if s.opts.writeTimeout = d; d <= 0 {
			s.opts.refuse("write timeout %v", d)
		}
	}
}

// WithPacketWarnSize logs packets, either way, of more than n bytes. 0 or less: the default, 1 MiB.
func WithPacketWarnSize(n int) Option {
	return func(s *Server) { s.opts.warnSize = orDefault(n, DefaultPacketWarnSize) }
}

// WithConnWriteBufferSize bounds each connection's outbound queue to n packets. 0 or less: the default, 1024.
func WithConnWriteBufferSize(n int) Option {
	return func(s *Server) { s.opts.queuePackets = orDefault(n, DefaultConnWriteBufferSize) }
}

// WithConnWriteBufferBytes bounds each connection's outbound queue to n bytes of payload, but for a single packet that
// is larger. 0 or less: the default, 256 KiB. A connection whose queue is full is closed (ErrSlowConsumer).
func WithConnWriteBufferBytes(n int) Option {
	return func(s *Server) { s.opts.queueBytes = orDefault(n, DefaultConnWriteBufferBytes) }
}

// WithMaxPacketSize is the largest packet that a client may send, in bytes; a larger one ends its connection, or, being a
// datagram, is dropped (Stats.DatagramsTooLarge). Default 64 KiB. A server that gateways link to takes 64 bytes more, for their header: see WithLinks.
func WithMaxPacketSize(n int) Option {
	return func(s *Server) {
		if s.opts.maxPacket = n; n <= 0 {
			s.opts.refuse("largest packet of %d bytes", n)
		}
	}
}

// WithLinks is for a server whose connections are the links of gateways, each of which carries many clients: it takes a
// packet of the largest size with a gateway's header before it (64 bytes more), and queues as much for a link as a
// gateway does, 4 MiB and 65,536 packets. Options after it win.
func WithLinks() Option {
	return func(s *Server) {
		s.opts.headroom = frame.WriteHeadroom
		s.opts.queueBytes, s.opts.queuePackets = 4<<20, 1<<16
	}
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// WithLogger sends what the server logs to logger. nil: slog.Default(), the default.
func WithLogger(logger *slog.Logger) Option {
	return func(s *Server) {
		if logger != nil {
			s.opts.logger = logger
		}
	}
}

// WithFramer marks packets on TCP and Unix sockets by f, as LengthFramer, UvarintFramer, LineFramer and RawFramer
// return it. Default: a length of 4 bytes, big-endian, before each packet.
func WithFramer(f Framer) Option {
	return func(s *Server) {
		if s.opts.framer = f; f == nil {
			s.opts.refuse("no framer")
		}
	}
}

// WithTransport makes the server accept through t instead of its network's own transport.
func WithTransport(t Transport) Option {
	return func(s *Server) {
		if s.opts.transport = t; t == nil {
			s.opts.refuse("no transport")
		}
	}
}

// WithAsyncHandlers runs each connection's handlers on a goroutine of its own, apart from the one that reads, so that a
// handler may block. Up to 256 KiB of packets wait for it; a connection that sends more is closed (ErrMailboxFull).
func WithAsyncHandlers() Option { return func(s *Server) { s.opts.async = true } }

// WithSerialHandlers runs the handlers of all connections on one goroutine, one after another, for game logic without
// locks. Up to 256 KiB of packets wait per connection; one that sends more is closed (ErrMailboxFull).
func WithSerialHandlers() Option { return func(s *Server) { s.opts.serial = true } }

// WithWebsocketReadDeadline closes a WebSocket connection on which nothing whole, not even the answer to a ping, was
// received for d. Pings go out after half of it. 0 or less: the default, 30 s.
func WithWebsocketReadDeadline(d time.Duration) Option {
	return func(s *Server) {
		if s.opts.wsDeadline = d; d <= 0 {
			s.opts.wsDeadline = DefaultWebsocketReadDeadline
		}
	}
}

// WithWebsocketUpgrade replaces the upgrader, its origin check included: gorilla's own default is the same origin.
func WithWebsocketUpgrade(upgrader *websocket.Upgrader) Option {
	return func(s *Server) { s.opts.wsUpgrader = upgrader }
}

// WithWebsocketConnInitializer calls initializer on the HTTP handler's goroutine after each upgrade, before anything is read. An
// error closes that connection.
func WithWebsocketConnInitializer(initializer func(http.ResponseWriter, *http.Request, *websocket.Conn) error) Option {
	return func(s *Server) { s.opts.wsInit = initializer }
}

// WithWebsocketMessageType accepts only the given types from clients; another closes the connection (1003). Default: text and binary.
func WithWebsocketMessageType(types ...int) Option {
	return func(s *Server) {
		for _, t := range types {
			if t != WebsocketMessageTypeText && t != WebsocketMessageTypeBinary {
				s.opts.refuse("websocket message type %d", t)
			}
		}
		s.opts.wsTypes = slices.Clone(types)
	}
}

// WithWebsocketOrigins lets web pages of more origins than the server's own connect: "https://game.example", or "*" for
// every one. A request without an Origin header, which no browser sends, is always accepted.
func WithWebsocketOrigins(origins ...string) Option {
	return func(s *Server) { s.opts.wsOrigins = append(s.opts.wsOrigins, origins...) }
}

// WithWebsocketCompression offers compression (RFC 7692) and uses level, of compress/flate, for what is written. 0 is no
// compression, the default. Compression costs each busy connection memory and each packet time.
func WithWebsocketCompression(level int) Option {
	return func(s *Server) {
		if s.opts.wsCompression = level; level < -2 || level > 9 {
			s.opts.refuse("compression level %d: -2 to 9", level)
		}
	}
}

// WithWebsocketWriteCompression compresses what is written too, where compression was agreed upon.
func WithWebsocketWriteCompression() Option { return func(s *Server) { s.opts.wsCompress = true } }

// readLimit is the largest packet that is read before it is known what a connection is.
// style is how packets are marked on byte streams.
func (o *options) style() *frame.Style { return &frame.Style{Framer: o.framer} }

func (o *options) readLimit() int { return max(o.maxPacket+o.headroom, o.firstPacket) }
