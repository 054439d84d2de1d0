package kcp_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

func TestServerConformance(t *testing.T) { conformance.ServerOver(t, network()) }
func TestClientConformance(t *testing.T) { conformance.ClientOver(t, network()) }

// network is KCP as the suite wants it. A peer that is gone without a word is noticed by heartbeats, not soon.
func network() conformance.Network {
	return conformance.Network{
		Name: "kcp",
		Server: func(opts ...server.Option) *server.Server {
			return server.New(server.NetworkKcp, append(opts, server.WithTransport(kcp.NewTransport()))...)
		},
		Client: func(addr string, opts ...client.Option) *client.Client {
			return kcp.NewClient(addr, kcp.WithClientOptions(opts...))
		},
		Address: func(string) string { return "127.0.0.1:0" },
		Dial: func(addr string) (net.Conn, error) {
			return dialPeer(addr)
		},
		Listen: listenPeer,
		Wire:   func(bool) conformance.Wire { return wire{} },
		Lacks:  conformance.Ends,
	}
}

// wire is the frames of packets, by hand.
type wire struct{}

func (w wire) Packet(_ int, data []byte) []byte {
	return append(w.Announce(uint64(len(data))), data...)
}

func (wire) Announce(size uint64) []byte {
	return binary.BigEndian.AppendUint32([]byte{4}, uint32(min(size, 1<<32-1)))
}

func (wire) Read(r *bufio.Reader) (int, []byte, error) {
	kind, body, err := readByHand(r)
	if err == nil && kind == 7 {
		err = io.EOF
	}
	return 0, body, err
}

func (wire) Goodbye() []byte { return []byte{7, 0, 0, 0, 2, 1000 >> 8, 1000 & 0xFF} }

func readByHand(r io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err := io.ReadFull(r, body)
	return head[0], body, err
}

// peer is a session whose other end is a subject. Its stream ends after CLOSE, as if that closed a socket, and has neither PING nor PONG.
type peer struct {
	*kcpgo.UDPSession
	socket net.PacketConn
	ln     *kcpgo.Listener // that it came from; nil: it has dialed
	rest   bytes.Buffer    // of the frame being read
	over   bool
	once   sync.Once
}

func (p *peer) Read(b []byte) (int, error) {
	for p.rest.Len() == 0 {
		if p.over {
			return 0, io.EOF
		}
		kind, body, err := readByHand(p.UDPSession)
		if err != nil {
			return 0, err
		}
		switch kind {
		case 5:
			_, _ = p.UDPSession.Write(kcp.AppendFrame(nil, 6, body))
			continue
		case 6:
			continue
		case 7:
			p.over = true
		}
		p.rest.Write(kcp.AppendFrame(nil, kind, body))
	}
	return p.rest.Read(b)
}

func (p *peer) Close() error {
	p.once.Do(func() {
		if p.ln != nil {
			// kcp-go's listener makes a session of what is late for one that was closed, and nobody closes that: it has to end first.
			_ = p.socket.Close()
			for _, err := p.ln.AcceptKCP(); err == nil; _, err = p.ln.AcceptKCP() {
			}
		}
		_ = p.UDPSession.Close()
		_ = p.socket.Close()
	})
	return nil
}

// dialSession begins a session with addr from socket, and says nothing.
func dialSession(socket net.PacketConn, addr string) (*peer, error) {
	remote, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	session, err := kcp.NewSession(rand.Uint32(), remote, socket)
	if err != nil {
		return nil, err
	}
	return &peer{UDPSession: session, socket: socket}, session.SetDeadline(time.Now().Add(patience))
}

// dialPeer connects to a server by hand.
func dialPeer(addr string) (*peer, error) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return dialPeerFrom(socket, addr)
}

func dialPeerFrom(socket net.PacketConn, addr string) (*peer, error) {
	p, err := dialSession(socket, addr)
	if err != nil {
		return nil, err
	}
	if _, err := p.Write(kcp.HelloFrame(kcp.NewID())); err != nil {
		return nil, err
	}
	kind, body, err := readByHand(p.UDPSession)
	if err != nil || kind != 2 {
		return nil, err
	}
	_, err = p.Write(kcp.AppendFrame(nil, 3, body[17:33]))
	return p, err
}

// listener takes one client, by hand.
type listener struct {
	*kcpgo.Listener
	socket net.PacketConn
}

func listenPeer(addr string) (net.Listener, error) {
	socket, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	ln, err := kcpgo.ServeConn(nil, 0, 0, socket)
	return &listener{ln, socket}, err
}

func (l *listener) Accept() (net.Conn, error) {
	session, err := l.AcceptKCP()
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 as its peer does
	session.SetStreamMode(true)
	session.SetNoDelay(1, 20, 2, 1)
	session.SetWindowSize(1024, 1024)
	p := &peer{UDPSession: session, socket: l.socket, ln: l.Listener}
	_, body, err := readByHand(session)
	if err != nil {
		return nil, err
	}
	hello, err := kcp.ParseHello(body)
	if err != nil {
		return nil, err
	}
	cookie := kcp.NewID()
	if _, err := session.Write(kcp.WelcomeFrame(hello, cookie)); err != nil {
		return nil, err
	}
	_, body, err = readByHand(session)
	if err == nil && !bytes.Equal(body, cookie[:]) {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}

// Close keeps the socket, which the session that was accepted needs. It is the peer's.
func (l *listener) Close() error { return nil }

// newPeer connects to a server by hand, until the test's end.
func newPeer(t testing.TB, addr string) *peer {
	p, err := dialPeer(addr)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}
