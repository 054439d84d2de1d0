package conformance

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// limit is the largest packet that subjects accept in a suite: above all sizes at which a length field changes.
const limit = 70_000

// queueBytes is the bound of subjects' outbound queues.
const queueBytes = 6 << 20

// packet is what a handler was given.
type packet struct {
	kind int
	data []byte
}

// subject is our own end of one connection: a server's or a client's.
type subject struct {
	packets chan packet // as handlers got them, the slices themselves
	closed  chan any    // what closed events got
	// write is Write: kind is the type, None is what that end writes by itself.
	write func(kind int, data []byte, callback func(error))
	// reply writes data as the answer to the packet received last.
	reply   func(data []byte)
	close   func(err ...error)
	network *Network
	// accepts is the largest packet it takes in, sends the largest it puts out.
	accepts, sends int
	// drains says that what a peer still sends of a packet that is too large is read, so that the peer gets to see why
	// it is closed. A client closes at once.
	drains bool
}

// side makes a subject and the peer that it is connected to.
type side func(t *testing.T, network *Network, dir string) (*subject, *Peer)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newSubject(network *Network) *subject {
	s := &subject{packets: make(chan packet, 4096), closed: make(chan any, 4), network: network}
	s.accepts, s.sends = network.largest()
	return s
}

// serverSide is a server with one connection, dialed by the peer.
func serverSide(t *testing.T, network *Network, dir string) (*subject, *Peer) {
	t.Helper()
	s := newSubject(network)
	s.drains = true
	srv := network.Server(server.WithMaxPacketSize(s.accepts), server.WithLogger(quiet),
		server.WithConnWriteBufferSize(1<<16), server.WithConnWriteBufferBytes(queueBytes))
	var last atomic.Pointer[server.Conn]
	opened := make(chan struct{})
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { last.Store(conn); close(opened) })
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		last.Store(conn)
		s.packets <- packet{conn.GetWST(), data}
	})
	srv.RegConnectionClosedEvent(func(_ *server.Server, _ *server.Conn, err any) { s.closed <- err })
	s.write = func(kind int, data []byte, callback func(error)) {
		conn := last.Load()
		if kind != None {
			conn.SetWST(kind)
		}
		conn.Write(data, callback)
	}
	s.reply = func(data []byte) { last.Load().Write(data) }
	s.close = func(err ...error) { last.Load().Close(err...) }
	conn, err := network.Dial(gwtest.Serve(t, srv, network.Address(dir)))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	peer := newPeer(t, conn, network.Wire(true))
	if network.Greet != nil {
		network.Greet(peer)
	}
	if !network.has(Openings) {
		peer.Write(Binary, opening)
		require.Equal(t, opening, s.next(t).data)
	}
	await(t, opened, "opened event")
	return s, peer
}

// opening is the first packet where a connection begins with one.
var opening = []byte("opening")

// clientSide is a client that has dialed the peer.
func clientSide(t *testing.T, network *Network, dir string) (*subject, *Peer) {
	t.Helper()
	s := newSubject(network)
	ln, err := network.Listen(network.Address(dir))
	require.NoError(t, err)
	defer ln.Close()
	c := network.Client(ln.Addr().String(), client.WithMaxPacketSize(s.accepts), client.WithLogger(quiet), client.WithWriteBytes(queueBytes))
	s.accepts += frame.WriteHeadroom
	s.sends = s.accepts
	var last atomic.Int64
	c.RegConnectionReceivePacketEvent(func(_ *client.Client, wst int, data []byte) {
		last.Store(int64(wst))
		s.packets <- packet{wst, data}
	})
	c.RegConnectionClosedEvent(func(_ *client.Client, err any) { s.closed <- err })
	s.write = func(kind int, data []byte, callback func(error)) { c.WriteWS(kind, data, callback) }
	s.reply = func(data []byte) { c.WriteWS(int(last.Load()), data) }
	s.close = c.Close

	running := make(chan error, 1)
	go func() { running <- c.Run() }()
	t.Cleanup(func() { c.Close() })
	if !network.has(Openings) {
		require.NoError(t, await(t, running, "outcome of Run"))
		c.Write(opening)
	}
	conn, err := accept(ln)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	peer := newPeer(t, conn, network.Wire(false))
	if network.Answer != nil {
		network.Answer(peer)
	}
	if !network.has(Openings) {
		peer.Expect(Binary, opening)
		return s, peer
	}
	require.NoError(t, await(t, running, "outcome of Run"))
	return s, peer
}

// leaves ends the connection in order, from the peer's side where that can be. The closed event must get nil.
func (s *subject) leaves(t *testing.T, p *Peer) {
	t.Helper()
	if s.network.has(Farewells) {
		p.Farewell()
	} else {
		s.close()
	}
	assert.Nil(t, s.end(t), "an orderly end")
}

// next returns the next packet that the subject's handler got.
func (s *subject) next(t *testing.T) packet {
	t.Helper()
	return await(t, s.packets, "packet")
}

// end returns what the closed event got.
func (s *subject) end(t *testing.T) any {
	t.Helper()
	return await(t, s.closed, "closed event")
}

// await receives from ch, and fails the test if nothing comes.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case v := <-ch:
		return v
	case <-ctx.Done():
		require.FailNow(t, "no "+what, "within %v", patience)
		panic("not reached")
	}
}
