package gateway_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// memClient is a client without a socket, a goroutine or a buffer.
type memClient struct {
	carried *server.Carried
	got     *atomic.Int64
}

func (c *memClient) Carried(v *server.Carried)    { c.carried = v }
func (c *memClient) Handoff(string, []byte) error { return server.ErrNoGateway }
func (c *memClient) Close(server.Farewell)        {}
func (c *memClient) Write(_ int, _ []byte, done func(error)) error {
	c.got.Add(1)
	c.carried.Wrote(done, nil)
	return nil
}

// A million sessions go through one endpoint with four links, in at most 1.5 GB, and a round trip takes no more than twice as long
// as with ten thousand.
func TestMillionSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("a million sessions: not with -short")
	}
	if raceEnabled {
		t.Skip("a million sessions: not with the race detector")
	}
	const few, many = 10_000, 1_000_000
	small, big := newThrong(t, few), newThrong(t, many)
	fast, slow := quietly(func() (fast, slow time.Duration) { return small.round(t, few), big.round(t, few) })
	debug.FreeOSMemory()
	resident := residentBytes(t)
	t.Logf("%d sessions: %d MB resident, %d bytes each; a round trip %v, with %d sessions %v", many, resident>>20, resident/many, slow, few, fast)
	assert.Equal(t, many, gateway.LiveSessions(big.gateway.Gateway))
	assert.LessOrEqual(t, resident, 1500<<20)
	assert.LessOrEqual(t, slow, 2*fast)
	for _, c := range big.clients {
		c.carried.End(nil)
	}
	assert.Zero(t, gateway.LiveSessions(big.gateway.Gateway))
}

// throng is many clients of one gateway, all of which have made a round trip.
type throng struct {
	gateway *fixture
	clients []*memClient
	got     atomic.Int64
}

func newThrong(t *testing.T, n int) *throng {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(4))
	c := &throng{gateway: newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))}
	ready(t, 4, e)
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		client := &memClient{got: &c.got}
		_, err := c.gateway.Server().Carry(client, server.CarriedOptions{
			ID: ip.String() + ":7777", Addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 7777)),
		})
		require.NoError(t, err)
		client.carried.Open()
		c.clients = append(c.clients, client)
	}
	c.round(t, n)
	runtime.GC() // what joining has left is not to be measured
	return c
}

// round has n of the clients make a round trip, no more than 256 at once, and returns how long one takes.
func (c *throng) round(t *testing.T, n int) time.Duration {
	begun, before := time.Now(), c.got.Load()
	step := len(c.clients) / n
	for i := range n {
		c.clients[i*step].carried.Receive(0, []byte("0123456789abcdef"))
		for int64(i)-(c.got.Load()-before) >= 256 {
			runtime.Gosched()
		}
	}
	require.Eventually(t, func() bool { return c.got.Load() == before+int64(n) }, patience, time.Millisecond)
	return time.Since(begun) / time.Duration(n)
}

// residentBytes returns the memory of this process, where the system tells.
func residentBytes(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Logf("memory not measured: %v", err)
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	require.NotEmpty(t, fields)
	kb, err := strconv.Atoi(fields[0])
	require.NoError(t, err, fmt.Sprintf("%q", fields[0]))
	return kb << 10
}
