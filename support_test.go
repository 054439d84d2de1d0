package gateway_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

func TestMain(m *testing.M) {
	if backend := os.Getenv(gatewayProcessFor); backend != "" {
		runGatewayProcess(backend)
	}
	gwtest.Main(m)
}

const patience = 30 * time.Second // before a test gives up on something that has to happen

// listenAddress returns an address that a server of network can be run on.
func listenAddress(t testing.TB, network server.Network) string {
	if network == server.NetworkUnix {
		return filepath.Join(t.TempDir(), "s")
	}
	return "127.0.0.1:0"
}

// dial returns a client for a server of network at address, not run yet.
func dial(network server.Network, address string, opts ...client.Option) *client.Client {
	switch network {
	case server.NetworkWebsocket:
		return client.NewWebsocket("ws://"+address+"/", opts...)
	case server.NetworkUnix:
		return client.NewUnixDomainSocket(address, opts...)
	case server.NetworkUdp:
		return client.NewUDP(address, opts...)
	}
	return client.NewTCP(address, opts...)
}

// backend is an endpoint written by hand with the two codecs.
type backend struct {
	srv     *server.Server
	network server.Network
	address string

	mu    sync.Mutex
	seen  map[string]*server.Conn // the link that a client's last packet came over
	links map[string]int          // packets by link
	all   []string                // every payload, in the order it came
}

// newBackend runs an endpoint whose answer to each packet is made by answer; nil: an echo.
func newBackend(t testing.TB, network server.Network, answer func(packet []byte) []byte) *backend {
	b := &backend{
		srv:     server.New(network, server.WithLinks()),
		network: network, seen: map[string]*server.Conn{}, links: map[string]int{},
	}
	b.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		addr, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		if !assert.NoError(t, err) || addr == "0.0.0.0:0" {
			return
		}
		b.mu.Lock()
		b.seen[addr] = conn
		b.links[conn.GetID()]++
		b.all = append(b.all, string(packet))
		b.mu.Unlock()
		if answer != nil {
			packet = answer(packet)
		}
		if packet != nil {
			b.write(t, conn, addr, packet)
		}
	})
	b.address = gwtest.Serve(t, b.srv, listenAddress(t, network))
	return b
}

func (b *backend) write(t testing.TB, link *server.Conn, addr string, packet []byte) {
	data, err := gateway.MarshalGatewayInPacket(addr, time.Now().UnixNano(), packet)
	if assert.NoError(t, err) {
		link.Write(data)
	}
}

// push sends packet to a client over the link that the client's last packet came over.
func (b *backend) push(t testing.TB, addr string, packet []byte) {
	b.mu.Lock()
	link := b.seen[addr]
	b.mu.Unlock()
	require.NotNil(t, link, addr)
	b.write(t, link, addr, packet)
}

// online returns the endpoint's ends of its links: the gateway may know of a link a little before.
func (b *backend) online(t testing.TB, links int) map[string]*server.Conn {
	require.Eventually(t, func() bool { return b.srv.GetOnlineCount() == links }, patience, time.Millisecond)
	return b.srv.GetOnlineAll()
}

func (b *backend) clients() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]string, 0, len(b.seen))
	for addr := range b.seen {
		all = append(all, addr)
	}
	return all
}

func (b *backend) linksUsed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.links)
}

func (b *backend) endpoint(name string, options ...gateway.EndpointOption) *gateway.Endpoint {
	return gateway.NewEndpoint(name, dial(b.network, b.address), append(options, gateway.WithPlainLinks())...)
}

// fixture is a gateway that is running, and what it heard.
type fixture struct {
	*gateway.Gateway
	network server.Network
	address string
}

// newGateway runs a gateway over the endpoints of scanner, that forwards by GetConnEndpoint under name and writes what comes back.
func newGateway(t testing.TB, network server.Network, name string, scanner gateway.Scanner, options ...gateway.Option) *fixture {
	return newGatewayOn(t, network, "", name, scanner, options...)
}

// newGatewayOn is newGateway with an address to listen on, "" for any.
func newGatewayOn(t testing.TB, network server.Network, address, name string, scanner gateway.Scanner, options ...gateway.Option) *fixture {
	return newGatewayWith(t, server.New(network), address, name, scanner, options...)
}

// newGatewayWith is newGatewayOn with a server of one's own.
func newGatewayWith(t testing.TB, srv *server.Server, address, name string, scanner gateway.Scanner, options ...gateway.Option) *fixture {
	f := &fixture{Gateway: gateway.NewGateway(srv, scanner, options...), network: srv.GetNetwork()}
	f.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := g.GetConnEndpoint(name, conn); assert.NoError(t, err) {
			e.Forward(conn, packet)
		}
	})
	f.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	f.run(t, address)
	return f
}

// run runs the gateway until the test's end.
func (f *fixture) run(t testing.TB, address string) {
	if address == "" {
		address = listenAddress(t, f.network)
	}
	listening, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	f.Server().RegMessageReadyEvent(func(*server.Server) { once.Do(func() { close(listening) }) })
	go func() { ended <- f.Run(address) }()
	select {
	case <-listening:
	case err := <-ended:
		require.NoError(t, err)
	}
	f.address = f.Server().Addr().String()
	t.Cleanup(func() {
		f.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// ready waits until each of the endpoints has so many links, and can be chosen if that is any.
func ready(t testing.TB, links int, endpoints ...*gateway.Endpoint) {
	for _, e := range endpoints {
		require.Eventually(t, func() bool {
			return e.Links() == links && gateway.Selectable(e) == (links > 0)
		}, patience, time.Millisecond, e.GetAddress())
	}
}

// bot is a client that counts what it gets.
type bot struct {
	*client.Client
	got    chan []byte
	closed atomic.Int32
}

func newBot(t testing.TB, network server.Network, address string) *bot {
	b := &bot{Client: dial(network, address), got: make(chan []byte, 1024)}
	b.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { b.got <- packet })
	b.RegConnectionClosedEvent(func(*client.Client, any) { b.closed.Add(1) })
	require.NoError(t, b.Run())
	t.Cleanup(func() { b.Close() })
	return b
}

// next returns the next packet.
func (b *bot) next(t testing.TB) []byte {
	select {
	case packet := <-b.got:
		return packet
	case <-time.After(patience):
		require.Fail(t, "no packet came")
		return nil
	}
}

// ask sends packet and returns the next one that comes.
func (b *bot) ask(t testing.TB, packet []byte) []byte {
	b.Write(packet)
	return b.next(t)
}

// numbered returns a packet that says who sent it and which it is.
func numbered(who, n int) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(who)), uint64(n))
}

func readNumber(t testing.TB, packet []byte) (who, n int) {
	require.Len(t, packet, 12)
	return int(binary.BigEndian.Uint32(packet)), int(binary.BigEndian.Uint64(packet[4:]))
}

var networks = []server.Network{server.NetworkWebsocket, server.NetworkTcp, server.NetworkUnix}

// engines are those that this system has.
func engines() map[string]server.Option {
	all := map[string]server.Option{"goroutines": server.WithEngine(server.EngineGoroutines)}
	if loop.Supported {
		all["loops"] = server.WithEngine(server.EngineLoops)
	}
	return all
}

func closedPort(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return fmt.Sprint(ln.Addr())
}

func timeout(testing.TB) <-chan time.Time { return time.After(patience) }

// onlyConn returns the gateway's one connection.
func onlyConn(t testing.TB, f *fixture) *server.Conn {
	all := f.Server().GetOnlineAll()
	require.Len(t, all, 1)
	for _, conn := range all {
		return conn
	}
	return nil
}

func dialWS(t testing.TB, address string) *websocket.Conn {
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+address, nil)
	require.NoError(t, err)
	t.Cleanup(func() { ws.Close() })
	return ws
}

// closeCode returns the code of the close frame that err tells of.
func closeCode(err error) int {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return closed.Code
	}
	return 0
}
