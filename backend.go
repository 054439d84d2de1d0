package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/hook"
	"github.com/minotaur-gateway/gateway/internal/trust"
	"github.com/minotaur-gateway/gateway/server"
)

// DefaultGrace is how long a backend keeps the sessions of a lost link for the gateway to take up again.
const DefaultGrace = 10 * time.Second

// Backend makes an endpoint of a server: each client behind a gateway becomes a *server.Conn of it, with its own opened
// and closed events, ID, data, Write and Close, beside the server's direct clients. It is opened by the first packet that the
// gateway forwards for it, or by MoveConn there. Its methods may be called from any goroutine; only Drain blocks.
type Backend struct {
	srv       *server.Server // static after NewBackend, as are the next ones up to plain
	log       *slog.Logger
	name      string
	instance  instanceID
	secrets   secrets
	trusted   trust.Prefixes
	certified []string // names that gateways' certificates must have one of; nil: they need none
	grace     time.Duration
	moving    func(conn *server.Conn) []byte
	linkOnly  bool
	plain     bool
	bad       error

	stats backendCounts

	groupsMu sync.Mutex // guards the next; taken before Group.mu, which is taken before backsession.mu
	groups   map[string]*Group

	mu    sync.Mutex // guards the rest; taken before peer.mu
	state backendState
	peers map[instanceID]*peer
	links map[*backlink]struct{}
}

// BackendOption configures a Backend; see NewBackend.
type BackendOption func(b *Backend)

// WithSecret lets gateways link that prove that they know current or, while secrets are being changed, one of previous
// (WithLinkSecret), each of at least 16 bytes, or srv.Run gives ErrBadOption; no others. The backend proves the same to them.
func WithSecret(current []byte, previous ...[]byte) BackendOption {
	return func(b *Backend) {
		var err error
		if b.secrets, err = newSecrets(current, previous); err != nil {
			b.refuse(err)
		}
	}
}

// LinksOnly refuses direct clients.
func LinksOnly() BackendOption { return func(b *Backend) { b.linkOnly = true } }

// WithPlainGateways serves gateways too that don't speak the session protocol, such as v0.5.5: a session opens with its
// first packet, and ends with its link or after 60 s without a packet.
func WithPlainGateways() BackendOption { return func(b *Backend) { b.plain = true } }

// WithGrace sets how long the sessions of a lost link are kept for the gateway to take up again. 0 or less: DefaultGrace.
func WithGrace(d time.Duration) BackendOption {
	return func(b *Backend) {
		if b.grace = d; d <= 0 {
			b.grace = DefaultGrace
		}
	}
}

// WithBackendName names the backend in gateways' logs, with 255 bytes at most.
func WithBackendName(name string) BackendOption {
	return func(b *Backend) {
		if b.name = name; len(name) > maxNameSize {
			b.refuse(fmt.Errorf("%w: backend name of %d bytes: %d at most", ErrBadOption, len(name), maxNameSize))
		}
	}
}

// WithMoveState asks state, when a gateway moves a session elsewhere, for what the next backend gets with it (MoveState), 32
// KiB at most; more is left out, with a word in the log. It runs where the session's handlers run, before the closed ones.
func WithMoveState(state func(conn *server.Conn) []byte) BackendOption {
	return func(b *Backend) { b.moving = state }
}

// WithBackendLogger sends what the backend logs to logger. nil: slog.Default(), the default.
func WithBackendLogger(logger *slog.Logger) BackendOption {
	return func(b *Backend) {
		if logger != nil {
			b.log = logger
		}
	}
}

// NewBackend makes a backend of srv, which is not running yet; srv is run as before. A bad option is an error of srv.Run; see
// Err.
func NewBackend(srv *server.Server, options ...BackendOption) *Backend {
	b := &Backend{
		srv: srv, log: slog.Default(), instance: newInstance(), grace: DefaultGrace,
		peers: map[instanceID]*peer{}, links: map[*backlink]struct{}{},
		groups: map[string]*Group{},
	}
	for _, option := range options {
		if option != nil {
			option(b)
		}
	}
	srv.SetLayer(&backendLayer{b})
	return b
}

func (b *Backend) refuse(err error) {
	if b.bad == nil {
		b.bad = err
	}
}

// Err returns what is wrong with the options, ErrBadOption, wrapped; nil if nothing. srv.Run returns the same, wrapped.
func (b *Backend) Err() error { return b.bad }

// Links returns how many gateways' links are up.
func (b *Backend) Links() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for l := range b.links {
		if l.ready() {
			n++
		}
	}
	return n
}

// MoveState returns the state that came with a conn that was moved here: what WithMoveState or Handoff gave on the backend
// it was on before. nil where it was not moved, or nothing was given. It is there from the opened handlers on; all else that the
// other backend knew, what SetData stored and groups, is not.
func (b *Backend) MoveState(conn *server.Conn) []byte {
	if s, ok := conn.Carrier().(*backsession); ok && s.peer.backend == b {
		return s.handed
	}
	return nil
}

// moveState asks the user's code for the state of a session that goes elsewhere.
func (b *Backend) moveState(conn *server.Conn) (state []byte) {
	if b.moving == nil {
		return nil
	}
	hook.Guard(func() { state = b.moving(conn) }, func(value any, stack []byte) {
		b.log.Error("user code panicked", "what", "move state", "conn", conn.GetID(), "panic", value, "stack", string(stack))
	})
	if len(state) > maxStateSize {
		b.log.Error("state left behind: too large", "conn", conn.GetID(), "bytes", len(state), "most", maxStateSize)
		return nil
	}
	return state
}

// peerOf returns what is known about a gateway.
func (b *Backend) peerOf(instance instanceID, name string) *peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[instance]
	if p == nil {
		p = &peer{backend: b, instance: instance, name: name, sessions: map[uint64]*backsession{}, gone: map[uint64]ended{}, past: map[uint64]ledger{}}
		b.peers[instance] = p
	}
	return p
}

// forgetPeer drops a gateway that has neither links nor sessions.
func (b *Backend) forgetPeer(p *peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) == 0 && len(p.past) == 0 && len(p.gone) == 0 && p.links == 0 && b.peers[p.instance] == p {
		delete(b.peers, p.instance)
	}
}

// backendLayer stands between the server and its links, so that a Backend has no methods for it.
type backendLayer struct{ b *Backend }

var _ server.Layer = (*backendLayer)(nil)

// Err makes a bad option an error of the server's Run.
func (l *backendLayer) Err() error { return l.b.bad }

func (l *backendLayer) Subprotocol() string { return protocolSubprotocol }

func (l *backendLayer) Claim(conn *server.Conn, subprotocol string) server.Claim {
	switch {
	case subprotocol == protocolSubprotocol:
		l.b.newLink(conn, false)
		return server.ClaimTaken
	case conn.IsWebsocket() && !l.b.plain && !l.b.linkOnly:
		return server.ClaimClient
	}
	return server.ClaimLater
}

// First decides about a connection for good: what doesn't begin with HELLO, or with a plain gateway's identifier where
// those are welcome, is a client's.
func (l *backendLayer) First(conn *server.Conn, packet []byte) bool {
	hello := isHello(packet)
	if !hello && !l.b.linkOnly && !(l.b.plain && isOutPacket(packet)) {
		return false
	}
	l.b.newLink(conn, !hello && l.b.plain && isOutPacket(packet))
	return true
}

func (l *backendLayer) Packet(link any, packet []byte) { link.(*backlink).packet(packet) }

func (l *backendLayer) Ended(conn *server.Conn, err error) {
	conn.Attachment().(*backlink).ended(err)
}

var errNotALink = errors.New("gateway: direct clients are refused (LinksOnly)")
