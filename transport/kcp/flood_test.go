package kcp_test

import (
	"encoding/binary"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
	"github.com/minotaur-gateway/gateway/transport/kcp"
)

// forged is a socket on which anybody may seem to send. What is sent on it is lost.
type forged struct {
	*badSocket
	in chan forgery
}

type forgery struct {
	bytes []byte
	from  net.Addr
}

func newForged(t testing.TB) *forged {
	s := newBadSocket(t, 0)
	s.cut.Store(true)
	f := &forged{s, make(chan forgery)}
	return f
}

func (f *forged) ReadFrom(p []byte) (int, net.Addr, error) {
	d, ok := <-f.in
	if !ok {
		return 0, nil, net.ErrClosed
	}
	return copy(p, d.bytes), d.from, nil
}

func (f *forged) Close() error {
	if !f.cut.Swap(false) {
		return nil
	}
	close(f.in)
	return f.PacketConn.Close()
}

// segment is a session's segment number sn.
func segment(conv uint32, cmd byte, sn uint32, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, conv)
	b = append(b, cmd, 0, 255, 0)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, sn)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

const push = 81

// TestFlood has HELLOs come from forged addresses. No more sessions are made than may be half-open, in all and of one prefix; each one
// beyond that is counted, and none becomes a connection.
func TestFlood(t *testing.T) {
	const all, perPrefix, prefixes, hosts = 200, 10, 40, 20
	socket := newForged(t)
	transport := kcp.NewTransportOn(socket, kcp.WithHalfOpen(all, perPrefix), kcp.WithHandshakeTimeout(time.Hour))
	r := newRig(t, transport)
	before, routines := memory(), runtime.NumGoroutine()
	hello := kcp.HelloFrame(kcp.NewID())
	for prefix := range prefixes {
		for host := range hosts {
			from := &net.UDPAddr{IP: net.IPv4(198, 51, byte(prefix), byte(host+1)), Port: 1000 + host}
			socket.in <- forgery{segment(uint32(host+1), push, 0, hello), from}
		}
		socket.in <- forgery{nil, &net.UDPAddr{}} // taken when those before it were seen to
		halfOpen, sessions := kcp.HalfOpen(transport)
		assert.Equal(t, min(all, (prefix+1)*perPrefix), halfOpen)
		assert.Equal(t, halfOpen, sessions)
	}
	t.Logf("%d half-open sessions: %d bytes and %.1f goroutines each", all, (int64(memory())-int64(before))/all,
		float64(runtime.NumGoroutine()-routines)/all)
	assert.EqualValues(t, prefixes*hosts-all, r.Stats().Refusals[server.RefusedHalfOpen])
	assert.Zero(t, r.Stats().Opened)
}

// memory is what heap and stacks hold.
func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestNonsenseMakesNothing sends datagrams that begin no session.
func TestNonsenseMakesNothing(t *testing.T) {
	hello := kcp.HelloFrame(kcp.NewID())
	fragment := segment(1, push, 0, hello)
	fragment[5] = 1
	longer := segment(1, push, 0, hello)
	longer[20]++
	cases := []struct {
		name  string
		bytes []byte
	}{
		{"nothing", nil},
		{"less than a segment", make([]byte, 23)},
		{"zeros", make([]byte, 1400)},
		{"another command", segment(1, 80, 0, hello)},
		{"an acknowledgement", segment(1, 82, 0, hello)},
		{"a later segment", segment(1, push, 1, hello)},
		{"a segment of a message", fragment},
		{"a segment that is cut off", longer},
		{"half a hello", segment(1, push, 0, hello[:20])},
		{"a hello of another length", segment(1, push, 0, append([]byte{1, 0, 0, 1, 0}, hello[5:]...))},
		{"another magic", segment(1, push, 0, append([]byte{1, 0, 0, 0, 21, 'X'}, hello[6:]...))},
		{"a packet first", segment(1, push, 0, kcp.AppendFrame(nil, kcp.TypeData, hello))},
		{"parity", segment(1, 0xf2, 0, hello)},
		{"error correction of nothing", append([]byte{0, 0, 0, 0, 0xf1, 0, 0, 0}, make([]byte, 16)...)},
	}
	socket := newForged(t)
	transport := kcp.NewTransportOn(socket, kcp.WithHandshakeTimeout(time.Hour))
	r := newRig(t, transport)
	from := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 4000}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			socket.in <- forgery{c.bytes, from}
			socket.in <- forgery{nil, from} // taken when the one before it was seen to
			halfOpen, all := kcp.HalfOpen(transport)
			assert.Zero(t, halfOpen+all)
		})
	}
	socket.in <- forgery{segment(1, push, 0, hello), from}
	socket.in <- forgery{nil, from}
	halfOpen, all := kcp.HalfOpen(transport)
	assert.Equal(t, [2]int{1, 1}, [2]int{halfOpen, all}, "a hello does")
	assert.Zero(t, r.Stats().Opened)
}

// TestTrafficDoesNotExtendHandshake sends frames of the handshake byte by byte.
func TestTrafficDoesNotExtendHandshake(t *testing.T) {
	r := newRig(t, kcp.NewTransport(kcp.WithHandshakeTimeout(200*time.Millisecond)))
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	p, err := dialSession(socket, r.address)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.UDPSession.Write(kcp.HelloFrame(kcp.NewID()))
	require.NoError(t, err)
	_, _, err = readByHand(p.UDPSession)
	require.NoError(t, err)
	ready := kcp.AppendFrame(nil, kcp.TypeReady, make([]byte, 16))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; r.Stats().Refusals[server.RefusedHandshake] == 0; i++ {
		require.Less(t, i, 500, "the handshake goes on")
		if i < len(ready)-1 {
			_, _ = p.UDPSession.Write(ready[i : i+1])
		}
		<-tick.C
	}
	assert.Zero(t, r.Stats().Opened)
}
