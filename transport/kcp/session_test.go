package kcp_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// recorder keeps what was written to it, to send it again.
type recorder struct {
	net.PacketConn
	sent chan []byte
}

func (r recorder) WriteTo(p []byte, addr net.Addr) (int, error) {
	select {
	case r.sent <- append([]byte(nil), p...):
	default:
	}
	return r.PacketConn.WriteTo(p, addr)
}

// TestRestartOnTheSamePort has a client vanish, and another begin on its ip:port. The old session ends, and what is late of it reaches
// nobody.
func TestRestartOnTheSamePort(t *testing.T) {
	r := newRig(t, kcp.NewTransport())
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	past := recorder{socket, make(chan []byte, 1000)}
	first, err := dialPeerFrom(past, r.address)
	require.NoError(t, err)
	old := await(t, r.opened, "opened event")
	_, err = first.Write(wire{}.Packet(0, []byte("of the first")))
	require.NoError(t, err)
	require.Equal(t, "of the first", await(t, r.packets, "packet"))
	require.NoError(t, first.Close()) // without CLOSE: it crashed
	socket, err = net.ListenPacket("udp", socket.LocalAddr().String())
	require.NoError(t, err)

	second, err := dialPeerFrom(socket, r.address)
	require.NoError(t, err)
	defer second.Close()
	assert.Equal(t, kcp.ErrReplaced, await(t, r.closed, "closed event"))
	assert.True(t, old.IsClosed())
	await(t, r.opened, "opened event")

	to, err := net.ResolveUDPAddr("udp", r.address)
	require.NoError(t, err)
	close(past.sent)
	late := 0
	for b := range past.sent {
		_, err = socket.WriteTo(b, to)
		require.NoError(t, err)
		late++
	}
	require.Greater(t, late, 2, "datagrams of the old session")
	_, err = second.Write(wire{}.Packet(0, []byte("of the second")))
	require.NoError(t, err)
	assert.Equal(t, "of the second", await(t, r.packets, "packet"))
	assert.Equal(t, 1, r.GetOnlineCount())
	assert.Empty(t, r.closed, "the old HELLO ends nobody")
	assert.Empty(t, r.opened, "nor begins anybody")
}

// TestReconnect runs a client again after its server has closed it, and a clone of it.
func TestReconnect(t *testing.T) {
	r := newRig(t, kcp.NewTransport())
	b := newBot(t, r.address)
	for range 3 {
		require.NoError(t, b.Run())
		b.Write([]byte("hello"))
		assert.Equal(t, "hello", await(t, b.packets, "reply"))
		await(t, r.opened, "opened event").CloseWith(4001, "out")
		gone, ok := await(t, b.closed, "closed event").(*kcp.CloseError)
		require.True(t, ok)
		assert.Equal(t, kcp.CloseError{Code: 4001, Reason: "out"}, *gone)
		assert.Nil(t, await(t, r.closed, "closed event"))
	}
	clone := client.CloneClient(b.Client)
	require.NoError(t, clone.Run())
	clone.Close()
	assert.Nil(t, await(t, r.closed, "closed event"))
}

// TestVanishedHost cuts the network. Whoever is left notices, though it goes on writing.
func TestVanishedHost(t *testing.T) {
	const ping, dead = 40 * time.Millisecond, 120 * time.Millisecond
	t.Run("client", func(t *testing.T) {
		socket := newBadSocket(t, 0)
		r := newRig(t, kcp.NewTransport(kcp.WithHeartbeat(ping, dead)))
		b := newBot(t, r.address, over(socket))
		require.NoError(t, b.Run())
		conn := await(t, r.opened, "opened event")
		begun := time.Now()
		socket.cut.Store(true)
		stop := chatter(conn.Write)
		defer stop()
		assert.Equal(t, kcp.ErrSilent, await(t, r.closed, "closed event"))
		assert.GreaterOrEqual(t, time.Since(begun), dead-ping)
		b.Abort(nil)
	})
	t.Run("server", func(t *testing.T) {
		socket := newBadSocket(t, 0)
		r := newRig(t, kcp.NewTransportOn(socket))
		b := newBot(t, r.address, kcp.WithHeartbeat(ping, dead))
		require.NoError(t, b.Run())
		await(t, r.opened, "opened event")
		socket.cut.Store(true)
		stop := chatter(b.Write)
		defer stop()
		assert.Equal(t, kcp.ErrSilent, await(t, b.closed, "closed event"))
	})
}

// chatter writes now and then until it is stopped.
func chatter(write func([]byte, ...func(error))) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				write([]byte("anybody there?"))
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// TestHeartbeatsKeep has nothing said for many times the time after which a silent peer is dead.
func TestHeartbeatsKeep(t *testing.T) {
	for _, side := range []string{"client asks", "server asks"} {
		t.Run(side, func(t *testing.T) {
			often, seldom := kcp.WithHeartbeat(20*time.Millisecond, 2*time.Second), kcp.WithHeartbeat(time.Minute, time.Hour)
			if side == "server asks" {
				often, seldom = seldom, often
			}
			r := newRig(t, kcp.NewTransport(seldom))
			socket := &counter{PacketConn: newBadSocket(t, 0)}
			b := newBot(t, r.address, often, over(socket))
			require.NoError(t, b.Run())
			begun := socket.sent.Load()
			require.Eventually(t, func() bool { return socket.sent.Load() > begun+100 }, patience, time.Millisecond, "pings or pongs")
			assert.True(t, b.IsConnected())
			assert.Empty(t, r.closed)
		})
	}
}

// counter counts datagrams.
type counter struct {
	net.PacketConn
	sent atomic.Int64
}

func (c *counter) WriteTo(p []byte, addr net.Addr) (int, error) {
	c.sent.Add(1)
	return c.PacketConn.WriteTo(p, addr)
}

// TestWriteTimeout has a peer vanish that more is written to than the window holds: callbacks get the reason, before heartbeats find out.
func TestWriteTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	socket := newBadSocket(t, 0)
	r := newRig(t, kcp.NewTransport(kcp.WithWindow(32, 32)), server.WithWriteTimeout(timeout), server.WithConnWriteBufferBytes(4<<20))
	b := newBot(t, r.address, over(socket))
	require.NoError(t, b.Run())
	conn := await(t, r.opened, "opened event")
	socket.cut.Store(true)
	results := make(chan error, 64)
	for range 64 {
		conn.Write(make([]byte, 32<<10), func(err error) { results <- err })
	}
	written := 0
	for range 64 {
		switch err := await(t, results, "callback"); {
		case err == nil:
			written++
		default:
			assert.ErrorIs(t, err, net.ErrClosed)
		}
	}
	assert.LessOrEqual(t, written, 2, "the window is 32 segments and one write")
	assert.ErrorIs(t, await(t, r.closed, "closed event").(error), kcp.ErrWriteTimeout)
	b.Abort(nil)
}

// TestNobodyThere dials a port where nobody answers.
func TestNobodyThere(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer socket.Close()
	b := newBot(t, socket.LocalAddr().String(), kcp.WithHandshakeTimeout(50*time.Millisecond))
	assert.ErrorIs(t, b.Run(), kcp.ErrHandshakeTimeout)
	assert.ErrorIs(t, newBot(t, "nowhere").Run(), client.ErrBadAddress)
}

// TestCloseWhileConnecting ends a handshake at once.
func TestCloseWhileConnecting(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer socket.Close()
	b := newBot(t, socket.LocalAddr().String(), kcp.WithHandshakeTimeout(time.Hour))
	ended := make(chan error, 1)
	go func() { ended <- b.Run() }()
	_, _, err = socket.ReadFrom(make([]byte, 1500))
	require.NoError(t, err)
	b.Close()
	assert.ErrorIs(t, await(t, ended, "end of Run"), client.ErrClosed)
}
