package kcp_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// TestBadNetwork loses, doubles and reorders a tenth of all datagrams, each, in both directions. Every packet arrives once, in order,
// with encryption and error correction as without.
func TestBadNetwork(t *testing.T) {
	crypt := kcp.WithBlockCrypt(func() (kcp.BlockCrypt, error) { return kcpgo.NewAESBlockCrypt([]byte("a key of 16 byte")) })
	cases := []struct {
		name string
		opts []kcp.Option
	}{
		{"plain", nil},
		{"encrypted", []kcp.Option{crypt}},
		{"with error correction", []kcp.Option{kcp.WithFEC(4, 2)}},
		{"with both", []kcp.Option{crypt, kcp.WithFEC(4, 2)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			const n = 400
			below, beside := newBadSocket(t, 1), newBadSocket(t, 2)
			r := newRig(t, kcp.NewTransportOn(below, c.opts...))
			b := newBot(t, r.address, append(c.opts, over(beside))...)
			require.NoError(t, b.Run())
			for i := range n {
				b.Write(padded(i))
			}
			for i := range n {
				require.Equal(t, string(padded(i)), await(t, r.packets, "packet"))
				require.Equal(t, string(padded(i)), await(t, b.packets, "reply"))
			}
			b.Close()
			assert.Nil(t, await(t, r.closed, "closed event"))
			assert.Empty(t, r.packets)
			assert.Empty(t, b.packets)
			assert.Positive(t, below.spoiled())
			assert.Positive(t, beside.spoiled())
		})
	}
}

// padded returns a packet with a number, of a size that grows with it.
func padded(i int) []byte {
	return []byte(strconv.Itoa(i) + strings.Repeat("x", i*3))
}

// TestCloseFlushes closes right after writing more than the windows hold: all of it arrives, from either side.
func TestCloseFlushes(t *testing.T) {
	const n = 40
	large := strings.Repeat("y", 32<<10)
	t.Run("the client", func(t *testing.T) {
		r := newRig(t, kcp.NewTransportOn(newBadSocket(t, 3)), server.WithConnWriteBufferBytes(4<<20)) // for the echo
		b := newBot(t, r.address)
		require.NoError(t, b.Run())
		for i := range n {
			b.Write(fmt.Appendf(nil, "%d%s", i, large))
		}
		b.Close()
		for i := range n {
			require.Equal(t, strconv.Itoa(i)+large, await(t, r.packets, "packet"))
		}
		assert.Nil(t, await(t, r.closed, "closed event"))
	})
	t.Run("the server", func(t *testing.T) {
		r := newRig(t, kcp.NewTransport(), server.WithConnWriteBufferBytes(4<<20))
		b := newBot(t, r.address, over(newBadSocket(t, 4)))
		require.NoError(t, b.Run())
		conn := await(t, r.opened, "opened event")
		for i := range n {
			conn.Write(fmt.Appendf(nil, "%d%s", i, large))
		}
		conn.Close()
		for i := range n {
			require.Equal(t, strconv.Itoa(i)+large, await(t, b.packets, "packet"))
		}
		assert.Nil(t, await(t, b.closed, "closed event"))
	})
	t.Run("the server, by Shutdown", func(t *testing.T) {
		r := newRig(t, kcp.NewTransport(), server.WithConnWriteBufferBytes(4<<20))
		b := newBot(t, r.address)
		require.NoError(t, b.Run())
		conn := await(t, r.opened, "opened event")
		for i := range n {
			conn.Write(fmt.Appendf(nil, "%d%s", i, large))
		}
		r.Shutdown()
		for i := range n {
			require.Equal(t, strconv.Itoa(i)+large, await(t, b.packets, "packet"))
		}
		assert.Nil(t, await(t, b.closed, "closed event"))
	})
}

// TestLargestPacketOfALink crosses in both directions; one more byte ends the connection, and the error names both numbers.
func TestLargestPacketOfALink(t *testing.T) {
	const largest = 1<<20 + 64
	r := newRig(t, kcp.NewTransport(kcp.WithMaxPacketSize(largest)), server.WithConnWriteBufferBytes(4<<20))
	b := newBot(t, r.address)
	require.NoError(t, b.Run())
	packet := strings.Repeat("z", largest)
	b.Write([]byte(packet))
	assert.True(t, packet == await(t, b.packets, "reply"), "the reply differs")

	by := newPeer(t, r.address)
	_, err := by.Write(kcp.AppendHead(nil, kcp.TypeData, largest+1))
	require.NoError(t, err)
	reason := await(t, r.closed, "closed event")
	err, ok := reason.(error)
	require.True(t, ok, "%v", reason)
	assert.ErrorIs(t, err, server.ErrPacketTooLarge)
	assert.ErrorContains(t, err, strconv.Itoa(largest+1))
	assert.ErrorContains(t, err, strconv.Itoa(largest)+" allowed")
}

// TestForeignSocketNeedsPorts has a datagram come from an address that is none of IP's: it is dropped.
func TestForeignSocketNeedsPorts(t *testing.T) {
	var d net.PacketConn = newBadSocket(t, 0)
	r := newRig(t, kcp.NewTransportOn(oddSocket{d}))
	b := newBot(t, r.address, kcp.WithHandshakeTimeout(50_000_000))
	assert.ErrorIs(t, b.Run(), kcp.ErrHandshakeTimeout)
	assert.Zero(t, r.Stats().ConnectionsRefused)
}

// oddSocket has datagrams come from nowhere.
type oddSocket struct{ net.PacketConn }

func (s oddSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := s.PacketConn.ReadFrom(p)
	return n, &net.UnixAddr{Name: "nowhere"}, err
}
