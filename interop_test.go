package gateway_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// isControl reports whether a packet on a link, of either direction, is addressed to 0.0.0.0:0.
func isControl(data []byte, fromGateway bool) bool {
	if fromGateway {
		data = data[min(4, len(data)):]
	}
	return len(data) >= 6 && bytes.Equal(data[:6], make([]byte, 6))
}

// plainEndpoint is an endpoint as the contract's users have them, that notes every packet it gets.
type plainEndpoint struct {
	address string
	mu      sync.Mutex
	control int
	data    int
}

func newPlainEndpoint(t *testing.T, network server.Network, raw bool) *plainEndpoint {
	p := &plainEndpoint{}
	srv := server.New(network, server.WithLinks())
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		p.mu.Lock()
		if isControl(data, true) {
			p.control++
		} else {
			p.data++
		}
		p.mu.Unlock()
		if raw && isControl(data, true) {
			conn.Write(data) // as it came, identifier and all
			return
		}
		addr, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		if !assert.NoError(t, err) || addr == "0.0.0.0:0" {
			return
		}
		reply, err := gateway.MarshalGatewayInPacket(addr, time.Now().Unix(), packet)
		assert.NoError(t, err)
		conn.Write(reply)
	})
	p.address = gwtest.Serve(t, srv, listenAddress(t, network))
	return p
}

// Our gateway and an endpoint that doesn't speak the session protocol: it never sees a control packet, but for the one HELLO
// of the first link on a stream.
func TestPlainEndpointIsLeftInPeace(t *testing.T) {
	for _, test := range []struct {
		name    string
		network server.Network
		echo    bool
		hellos  int
	}{{"websocket", "websocket", false, 0}, {"tcp", "tcp", false, 1}, {"unix", "unix", false, 1}, {"echo over tcp", "tcp", true, 1}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlainEndpoint(t, test.network, test.echo)
			e := gateway.NewEndpoint("game", dial(test.network, p.address), gateway.WithEndpointConnectionPoolSize(3))
			g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
			ready(t, 3, e)
			for range 5 {
				assert.Equal(t, "hello", string(newBot(t, "tcp", g.address).ask(t, []byte("hello"))))
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			assert.Equal(t, test.hellos, p.control)
			assert.Equal(t, 5, p.data)
		})
	}
}

// One that sends HELLO back is found out at once: nothing waits for WELCOME any more.
func TestEchoIsFoundOutAtOnce(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", w.net.Client("a"))}}
	}, func(w *world) {
		var accepted, opened time.Time
		w.RegEndpointConnectOpenedEventHandle(func(*gateway.Gateway, *gateway.Endpoint) { opened = time.Now() })
		srv := w.net.Server(server.WithLinks())
		srv.RegConnectionOpenedEvent(func(*server.Server, *server.Conn) { accepted = time.Now() })
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) { conn.Write(data) })
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.False(t, accepted.IsZero())
		assert.Equal(t, accepted, opened)
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// plainGateway is a gateway of v0.5.5's wire, made of the codecs: one link.
type plainGateway struct {
	*client.Client
	got chan []byte
}

func newPlainGateway(t *testing.T, network server.Network, address string) *plainGateway {
	p := &plainGateway{Client: dial(network, address), got: make(chan []byte, 100)}
	p.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) { p.got <- data })
	require.NoError(t, p.Run())
	t.Cleanup(func() { p.Close() })
	return p
}

func (p *plainGateway) forward(t *testing.T, addr, text string) {
	data, err := gateway.MarshalGatewayOutPacket(addr, []byte(text))
	require.NoError(t, err)
	p.Write(data)
}

func (p *plainGateway) expect(t *testing.T, addr, text string) {
	select {
	case data := <-p.got:
		assert.False(t, isControl(data, false))
		to, _, packet, err := gateway.UnmarshalGatewayInPacket(data)
		require.NoError(t, err)
		assert.Equal(t, []string{addr, text}, []string{to, string(packet)})
	case <-time.After(patience):
		require.Fail(t, "no packet came")
	}
}

// A v0.5.5-style gateway and a backend that welcomes it: a session opens with its first packet, and ends with the link.
func TestPlainGatewayIsServed(t *testing.T) {
	for _, network := range backNetworks {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, nil, gateway.WithPlainGateways())
			p := newPlainGateway(t, network, h.address)
			p.forward(t, "203.0.113.7:4711", "one")
			p.expect(t, "203.0.113.7:4711", "one")
			p.forward(t, "203.0.113.8:4711", "other")
			p.expect(t, "203.0.113.8:4711", "other")
			p.forward(t, "203.0.113.7:4711", "two")
			p.expect(t, "203.0.113.7:4711", "two")
			p.forward(t, "0.0.0.0:0", "for nobody")
			p.Close()
			require.Eventually(t, func() bool { return h.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
			require.Eventually(t, func() bool {
				for _, events := range h.heard() {
					if last := events[len(events)-1]; last[:6] != "closed" {
						return false
					}
				}
				return true
			}, patience, time.Millisecond)
			assert.Len(t, h.heard(), 2)
			assert.Empty(t, p.got, "nothing but replies, and no control")
		})
	}
}

// Without WithPlainGateways, what a plain gateway sends is a direct client's, and speaks for nobody.
func TestPlainGatewayIsAClient(t *testing.T) {
	h := newHost(t, "tcp", nil)
	p := newPlainGateway(t, "tcp", h.address)
	p.forward(t, "203.0.113.7:4711", "one")
	data := <-p.got
	want, err := gateway.MarshalGatewayOutPacket("203.0.113.7:4711", []byte("one"))
	require.NoError(t, err)
	assert.Equal(t, want, data)
	assert.Contains(t, h.only(t).GetID(), "127.0.0.1")
}

func TestLinksOnly(t *testing.T) {
	for _, network := range backNetworks {
		t.Run(string(network), func(t *testing.T) {
			h := newHost(t, network, nil, gateway.LinksOnly())
			e := h.endpoint()
			g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
			ready(t, 1, e)
			direct := newBot(t, network, h.address)
			direct.Write([]byte("let me in"))
			require.Eventually(t, func() bool { return direct.closed.Load() == 1 }, patience, time.Millisecond)
			assert.Equal(t, "in", string(newBot(t, "tcp", g.address).ask(t, []byte("in"))))
			assert.Len(t, h.heard(), 1)
		})
	}
}
