package gateway_test

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

var silent = slog.New(slog.DiscardHandler)

// path is a gateway between a client and an endpoint that are bytes made beforehand, so that all that is measured is the gateway.
type path struct {
	client *gwtest.Raw
	link   net.Conn // the endpoint's end

	up, forwarded   []byte // one packet as the client sends it, and as it is on the link
	down, delivered []byte // one packet or several on the link, and as the client gets them
	buf             []byte
}

// newPath returns a path for packets of size bytes, of which batch come down at once.
func newPath(t testing.TB, network server.Network, engine server.Engine, size, batch int) *path {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	e := gateway.NewEndpoint("game", client.NewTCP(ln.Addr().String()), gateway.WithPlainLinks(),
		gateway.WithEndpointReconnectInterval(0))
	g := runPlain(t, network, engine, e)
	p := &path{}
	p.link, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { p.link.Close() })
	require.NoError(t, p.link.SetDeadline(time.Now().Add(10*time.Minute)))
	ready(t, 1, e)
	p.client = gwtest.DialRaw(t, network, g.address)

	payload := make([]byte, size)
	p.up = p.client.Sent(payload)
	p.forwarded = gwtest.Framed(append(make([]byte, 10), payload...))
	first := make([]byte, len(p.forwarded))
	_, err = p.client.Write(p.up)
	require.NoError(t, err)
	_, err = io.ReadFull(p.link, first)
	require.NoError(t, err)
	key := first[8:14] // behind the length and the identifier
	for range batch {
		p.down = append(p.down, gwtest.Framed(append(append(append([]byte{}, key...), 0, 0, 0, 0), payload...))...)
		p.delivered = append(p.delivered, p.client.Received(payload)...)
	}
	p.buf = make([]byte, max(len(p.forwarded), len(p.delivered)))
	return p
}

// runPlain runs a gateway that forwards all, and writes all that comes back, with as little as a program can do.
func runPlain(t testing.TB, network server.Network, engine server.Engine, endpoints ...*gateway.Endpoint) *fixture {
	g := &fixture{
		Gateway: gateway.NewGateway(server.New(network, server.WithEngine(engine), server.WithLogger(silent)),
			gateway.NewStaticScanner(endpoints...), gateway.WithLogger(silent)),
		network: network,
	}
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		if e, err := g.GetConnEndpoint("game", conn); err == nil {
			e.Forward(conn, packet)
		}
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		conn.Write(packet)
	})
	g.run(t, "")
	return g
}

// goUp takes one packet from the client to the link.
func (p *path) goUp() error {
	if _, err := p.client.Write(p.up); err != nil {
		return err
	}
	_, err := io.ReadFull(p.link, p.buf[:len(p.forwarded)])
	return err
}

// goDown takes a batch from the link to the client.
func (p *path) goDown() error {
	if _, err := p.link.Write(p.down); err != nil {
		return err
	}
	_, err := io.ReadFull(p.client, p.buf[:len(p.delivered)])
	return err
}

// roundTrip takes one packet up and what it brings down.
func (p *path) roundTrip() error {
	if p.link == nil { // a backend answers
		if _, err := p.client.Write(p.up); err != nil {
			return err
		}
		_, err := io.ReadFull(p.client, p.buf[:len(p.delivered)])
		return err
	}
	if err := p.goUp(); err != nil {
		return err
	}
	return p.goDown()
}

// newBackendPath returns a path that ends at a backend, which sends everything back.
func newBackendPath(t testing.TB, network server.Network, size int) *path {
	srv := server.New(server.NetworkTcp, server.WithLinks(), server.WithLogger(silent))
	gateway.NewBackend(srv, gateway.WithBackendLogger(silent))
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Write(packet) })
	e := gateway.NewEndpoint("game", client.NewTCP(gwtest.Serve(t, srv, "127.0.0.1:0")))
	g := runPlain(t, network, server.EngineAuto, e)
	ready(t, 1, e)
	p := &path{client: gwtest.DialRaw(t, network, g.address)}
	payload := make([]byte, size)
	p.up, p.delivered = p.client.Sent(payload), p.client.Received(payload)
	p.buf = make([]byte, len(p.delivered))
	require.NoError(t, p.roundTrip())
	return p
}

// linkPath is a gateway's link, made of bytes that were made beforehand, to a backend that sends everything back, so that all that is
// measured is the backend.
type linkPath struct {
	link     net.Conn
	up, down []byte                      // some packets, one of each client, and what comes back
	conn     atomic.Pointer[server.Conn] // of the client that sent last
}

// newLinkPath returns a path of so many clients, who send packets of size bytes.
func newLinkPath(t testing.TB, engine server.Option, size, clients int) *linkPath {
	p := &linkPath{}
	srv := server.New(server.NetworkTcp, server.WithLogger(silent), engine)
	gateway.NewBackend(srv, gateway.WithBackendLogger(silent))
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		p.conn.Store(conn)
		conn.Write(packet)
	})
	p.dial(t, gwtest.Serve(t, srv, "127.0.0.1:0"))
	for i := range clients {
		key := []byte{203, 0, 113, 7, byte(i >> 8), byte(i)}
		p.send(t, framedControl(open, openBodyFor(key)))
		packet := append(append([]byte{0xDE, 0xAD, 0xBE, 0xEF}, key...), make([]byte, size)...)
		p.up = append(p.up, gwtest.Framed(packet)...)
	}
	p.down = make([]byte, len(p.up)) // the headers of both directions are alike
	require.NoError(t, p.roundTrip())
	return p
}

func framedControl(kind byte, body []byte) []byte {
	return gwtest.Framed(append([]byte{0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, kind}, body...))
}

// dial links, as PROTOCOL.md has it.
func (p *linkPath) dial(t testing.TB, address string) {
	var err error
	p.link, err = net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { p.link.Close() })
	require.NoError(t, p.link.SetDeadline(time.Now().Add(10*time.Minute)))
	p.send(t, framedControl(hello, helloBody(1, 1, 1, nil)))
	for _, kind := range []byte{welcome, readyState} {
		head := make([]byte, 4)
		_, err := io.ReadFull(p.link, head)
		require.NoError(t, err)
		packet := make([]byte, binary.BigEndian.Uint32(head))
		_, err = io.ReadFull(p.link, packet)
		require.NoError(t, err)
		require.Equal(t, kind, packet[10])
	}
}

func (p *linkPath) send(t testing.TB, data []byte) {
	_, err := p.link.Write(data)
	require.NoError(t, err)
}

// roundTrip takes the packets there and back.
func (p *linkPath) roundTrip() error {
	if _, err := p.link.Write(p.up); err != nil {
		return err
	}
	_, err := io.ReadFull(p.link, p.down)
	return err
}

// push has the backend write to one of the clients.
func (p *linkPath) push(packet []byte) error {
	p.conn.Load().Write(packet)
	_, err := io.ReadFull(p.link, p.down[:4+10+len(packet)])
	return err
}
