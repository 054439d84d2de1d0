package gateway_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// filled is numbered with a payload that can be told from any other.
func filled(who, n int) []byte {
	return append(numbered(who, n), bytes.Repeat([]byte{byte(31*who + n)}, 1000+n)...)
}

// requireFilled fails the test if packet is none that filled has made.
func requireFilled(t *testing.T, packet []byte) {
	t.Helper()
	require.Greater(t, len(packet), 12)
	who, n := readNumber(t, packet[:12])
	require.Equal(t, filled(who, n), packet)
}

// failures are what callbacks and handlers of failed packets get.
type failures struct {
	mu     sync.Mutex     // guards the rest
	called map[string]int // callbacks, by packet
	failed int            // of them
	kept   [][]byte
}

func (l *failures) forward(e *gateway.Endpoint) func(*gateway.Gateway, *server.Conn, []byte) {
	return func(_ *gateway.Gateway, conn *server.Conn, packet []byte) {
		id := string(packet[:12])
		e.Forward(conn, packet, func(err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.called[id]++; err != nil {
				l.failed++
			}
		})
	}
}

func (l *failures) keep(_ *gateway.Gateway, _ *gateway.Endpoint, _ *server.Conn, packet []byte, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, packet)
}

// Links that are lost with packets queued on them, and nowhere to go: each callback comes once, and what failed stays what it was
// in the handler that keeps it, whatever is forwarded later.
func TestForwardsOverLostLinks(t *testing.T) {
	const bots, packets, losses = 12, 100, 4
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("unix", listenAddress(t, "unix")) // of which the kernel takes little that isn't read
			require.NoError(t, err)
			defer ln.Close()
			e := gateway.NewEndpoint("game", dial("unix", ln.Addr().String()), gateway.WithEndpointConnectionPoolSize(1),
				gateway.WithEndpointReconnectInterval(time.Millisecond), gateway.WithPlainLinks())
			l := &failures{called: map[string]int{}}
			f := &fixture{Gateway: gateway.NewGateway(server.New("tcp", engine), gateway.NewStaticScanner(e)), network: "tcp"}
			f.RegConnectionReceivePacketEventHandle(l.forward(e))
			f.RegForwardFailedEventHandle(l.keep)
			f.run(t, "")
			players := make([]*bot, bots)
			for who := range players {
				players[who] = newBot(t, "tcp", f.address)
			}
			for round := range losses + 1 {
				link, err := ln.Accept()
				require.NoError(t, err)
				defer link.Close()
				ready(t, 1, e)
				for who, player := range players {
					for n := range packets {
						player.Write(filled(who, round*packets+n))
					}
				}
				sent := uint64((round + 1) * bots * packets)
				if round == losses {
					readFilled(t, link, bots*packets)
				} else { // nothing is read
					require.Eventually(t, func() bool { return f.Stats().PacketsReceived == sent }, patience, time.Millisecond)
					require.NoError(t, link.Close())
					require.Eventually(t, func() bool { return f.Stats().LinksClosed == uint64(round+1) }, patience, time.Millisecond)
				}
				require.Eventually(t, func() bool { return f.Stats().PacketsForwarded+f.Stats().ForwardsFailed == sent }, patience, time.Millisecond)
				l.check(t, int(sent))
			}
		})
	}
}

// What the endpoint's framer refuses fails, and nothing else; and what failed stays what it was.
func TestRefusedForwards(t *testing.T) {
	const packets = 100
	framer := client.LengthFramer(1, binary.BigEndian)
	srv := server.New("tcp", server.WithLinks(), server.WithFramer(framer))
	arrived := make(chan []byte, packets)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, _ *server.Conn, data []byte) {
		_, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		assert.NoError(t, err)
		arrived <- packet
	})
	e := gateway.NewEndpoint("game", client.NewTCP(gwtest.Serve(t, srv, "127.0.0.1:0"), client.WithFramer(framer)),
		gateway.WithEndpointConnectionPoolSize(1), gateway.WithPlainLinks())
	l := &failures{called: map[string]int{}}
	f := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(e)), network: "tcp"}
	f.RegConnectionReceivePacketEventHandle(l.forward(e))
	f.RegForwardFailedEventHandle(l.keep)
	f.run(t, "")
	ready(t, 1, e)
	player := newBot(t, "tcp", f.address)
	for n := range packets { // one after the other: each could have the memory of the last
		player.Write(filled(1, 2*n))
		player.Write(numbered(1, 2*n+1))
		assert.Equal(t, numbered(1, 2*n+1), <-arrived)
	}
	l.check(t, 2*packets)
	assert.Len(t, l.kept, packets)
}

// readFilled reads so many packets, and fails the test if one of them is none of filled's.
func readFilled(t *testing.T, link net.Conn, packets int) {
	t.Helper()
	require.NoError(t, link.SetReadDeadline(time.Now().Add(patience)))
	var size [4]byte
	for range packets {
		_, err := io.ReadFull(link, size[:])
		require.NoError(t, err)
		data := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err = io.ReadFull(link, data)
		require.NoError(t, err)
		_, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		require.NoError(t, err)
		requireFilled(t, packet)
	}
}

// check fails the test unless sent packets have had their callbacks, once, and those that failed are what they were.
func (l *failures) check(t *testing.T, sent int) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.called) == sent
	}, patience, time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, calls := range l.called {
		require.Equal(t, 1, calls)
	}
	assert.Len(t, l.kept, l.failed)
	require.NotEmpty(t, l.kept)
	for _, packet := range l.kept {
		requireFilled(t, packet)
	}
}
