package gatewaytest

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

const (
	memory    = "mem"
	backlog   = 4096 // dials that wait for Serve
	maxPacket = client.DefaultMaxPacketSize + frame.WriteHeadroom
)

// Network is a network in memory, with names for addresses: any text that is not empty. Packets travel whole, as over TCP with the
// default framer, one of 1 MiB at most, whatever a server's options say; there are no WebSocket types. It works in a synctest bubble if it was made there: nothing in it
// waits for anything but pipes and channels. Its methods may be called from any goroutine, and don't block.
type Network struct {
	mu        sync.Mutex // guards the rest, and every transport
	listeners map[string]*transport
	refused   map[string]bool
	dials     map[string]int
	live      map[string]map[*link]struct{}
	last      int // number of the connection dialed last
	players   uint32
}

// NewNetwork returns a network on which nobody listens.
func NewNetwork() *Network {
	return &Network{
		listeners: map[string]*transport{}, refused: map[string]bool{}, dials: map[string]int{},
		live: map[string]map[*link]struct{}{},
	}
}

// Transport returns a transport for one server, which listens under the name that the server is run with.
func (n *Network) Transport() server.Transport { return &transport{network: n} }

// Server returns a server, not run yet, that listens on the network under the name that it is run with: for handlers of one's own,
// gateway.NewGateway or gateway.NewBackend.
func (n *Network) Server(options ...server.Option) *server.Server {
	return server.New(server.NetworkTcp, append([]server.Option{server.WithTransport(n.Transport())}, options...)...)
}

// Client returns a client of the server called addr. Each of its connections has a remote address of its own, "mem:N".
func (n *Network) Client(addr string) *client.Client {
	return client.NewClient(&core{network: n, addr: addr})
}

// ClientFrom returns a client of the server called addr, which sees it come from remote. It panics if that is no ip:port.
func (n *Network) ClientFrom(addr, remote string) *client.Client {
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))
	return client.NewClient(&core{network: n, addr: addr, from: from})
}

// playerAddress returns an address that no player has had: of 198.18.0.0/15, which RFC 2544 keeps for tests.
func (n *Network) playerAddress() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.players++
	ip := [4]byte{198, 18 + byte(n.players>>16), byte(n.players >> 8), byte(n.players)}
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 1024).String()
}

// Refuse makes dials of addr fail, or succeed again. Connections that are live already stay.
func (n *Network) Refuse(addr string, refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused[addr] = refuse
}

// Dials returns how often addr was dialed, with and without success.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// Cut breaks every live connection of addr. Both ends get ECONNRESET, whatever they are in the middle of.
func (n *Network) Cut(addr string) {
	n.mu.Lock()
	live := n.live[addr]
	delete(n.live, addr)
	n.mu.Unlock()
	for l := range live {
		l.cut()
	}
}

// dial connects to addr and returns the client's end. from is the client's address, nil for a new one.
func (n *Network) dial(addr string, from net.Addr) (*linkConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[addr]++
	t := n.listeners[addr]
	if t == nil || n.refused[addr] || len(t.backlog) == cap(t.backlog) {
		return nil, &net.OpError{Op: "dial", Net: memory, Addr: address(addr), Err: syscall.ECONNREFUSED}
	}
	if from == nil {
		n.last++
		from = address(memory + ":" + strconv.Itoa(n.last))
	}
	near, far := newLink(from, address(addr), func(l *link) { n.forget(addr, l) })
	if n.live[addr] == nil {
		n.live[addr] = map[*link]struct{}{}
	}
	n.live[addr][near.link] = struct{}{}
	t.backlog <- far
	return near, nil
}

func (n *Network) forget(addr string, l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.live[addr], l)
}

// transport is a server's side of a Network.
type transport struct {
	network *Network
	addr    string
	backlog chan net.Conn
	open    bool
}

var _ server.Transport = (*transport)(nil)

func (t *transport) Listen(addr string) error {
	t.network.mu.Lock()
	defer t.network.mu.Unlock()
	if t.network.listeners[addr] != nil {
		return &net.OpError{Op: "listen", Net: memory, Addr: address(addr), Err: syscall.EADDRINUSE}
	}
	t.network.listeners[addr] = t
	t.addr, t.backlog, t.open = addr, make(chan net.Conn, backlog), true
	return nil
}

func (t *transport) Addr() net.Addr {
	t.network.mu.Lock()
	defer t.network.mu.Unlock()
	return address(t.addr)
}

func (t *transport) Serve(acceptor *server.Acceptor) error {
	t.network.mu.Lock()
	dialed := t.backlog
	t.network.mu.Unlock()
	for conn := range dialed { // to the last one: those that came too late the server closes
		acceptor.Accept(server.NewStreamConn(conn, server.LengthFramer(4, nil), maxPacket))
	}
	return nil
}

func (t *transport) Close() error {
	t.network.mu.Lock()
	defer t.network.mu.Unlock()
	if t.open {
		t.open = false
		delete(t.network.listeners, t.addr)
		close(t.backlog)
	}
	return nil
}

// address is a name on a Network.
type address string

func (a address) Network() string { return memory }
func (a address) String() string  { return string(a) }
