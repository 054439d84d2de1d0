package gateway_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// keyWorld is a gateway with an endpoint that remembers who sent, and answers when it is told to.
func keyWorld(t *testing.T, play func(w *world, answer func(addr, text string), seen chan string)) {
	var e *gateway.Endpoint
	inWorld(t, time.Hour, func(w *world) found {
		if e == nil {
			e = w.endpoint("a")
		}
		return found{endpoints: []*gateway.Endpoint{e}}
	}, func(w *world) {
		seen := make(chan string, 100)
		var link atomic.Pointer[server.Conn]
		srv := w.net.Server(server.WithLinks())
		srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
			addr, _, err := gateway.UnmarshalGatewayOutPacket(data)
			assert.NoError(t, err)
			link.Store(conn)
			seen <- addr
		})
		ended := make(chan error, 1)
		go func() { ended <- srv.Run("a") }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		play(w, func(addr, text string) {
			data, err := gateway.MarshalGatewayInPacket(addr, 0, []byte(text))
			require.NoError(t, err)
			link.Load().Write(data)
		}, seen)
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
}

// joinFrom connects a client from remote, and counts what it gets.
func joinFrom(t *testing.T, w *world, remote string) (cli *client.Client, got *atomic.Int32) {
	cli, got = w.net.ClientFrom("gateway", remote), new(atomic.Int32)
	cli.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { got.Add(1) })
	require.NoError(t, cli.Run())
	return cli, got
}

func TestKeys(t *testing.T) {
	for _, test := range []struct {
		name, remote string
		own          bool // its address is its key
	}{
		{"IPv4", "203.0.113.7:4711", true},
		{"v4-mapped", "[::ffff:203.0.113.7]:4711", true},
		{"IPv6", "[2001:db8::1]:4711", false},
		{"claims 0.0.0.0/8", "0.1.2.3:4711", false},
		{"claims the control address", "0.0.0.0:0", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			keyWorld(t, func(w *world, answer func(addr, text string), seen chan string) {
				cli, got := joinFrom(t, w, test.remote)
				defer cli.Close()
				cli.Write([]byte("x"))
				addr := <-seen
				if test.own {
					assert.Equal(t, "203.0.113.7:4711", addr)
				} else {
					assert.Regexp(t, `^0\.`, addr)
					assert.NotEqual(t, "0.0.0.0:0", addr)
					assert.NotEqual(t, "0.1.2.3:4711", addr)
				}
				answer(addr, "reply")
				synctest.Wait()
				assert.EqualValues(t, 1, got.Load())
			})
		})
	}
}

// A late reply to a client that left never reaches a new client with the same ip:port.
func TestPortReuse(t *testing.T) {
	const tries = 10_000
	const remote = "203.0.113.7:4711"
	keyWorld(t, func(w *world, answer func(addr, text string), seen chan string) {
		used := map[string]time.Time{}
		last := ""
		for i := range tries {
			cli, got := joinFrom(t, w, remote)
			cli.Write([]byte("x"))
			addr := <-seen
			if before, again := used[addr]; again {
				require.GreaterOrEqual(t, time.Since(before), time.Minute, "%s was given again too soon", addr)
			}
			if last != "" {
				answer(last, "late") // for the one before, who has left
			}
			answer(addr, "reply")
			synctest.Wait()
			require.EqualValues(t, 1, got.Load(), "try %d: its own reply and no other", i)
			cli.Close()
			synctest.Wait()
			used[addr], last = time.Now(), addr
			time.Sleep(time.Duration(i%7) * time.Second)
		}
		stats := w.Stats()
		assert.EqualValues(t, tries-1, stats.DroppedUnknown)
		assert.Greater(t, len(used), 1)
		assert.Contains(t, used, remote, "its own address, when that is free")
	})
}

// Two live clients with one address have two keys.
func TestKeyInUse(t *testing.T) {
	keyWorld(t, func(w *world, answer func(addr, text string), seen chan string) {
		first, gotFirst := joinFrom(t, w, "203.0.113.7:4711")
		defer first.Close()
		second, gotSecond := joinFrom(t, w, "203.0.113.7:4711")
		defer second.Close()
		first.Write([]byte("x"))
		a := <-seen
		second.Write([]byte("x"))
		b := <-seen
		assert.NotEqual(t, a, b)
		answer(b, "for the second")
		synctest.Wait()
		assert.Equal(t, []int32{0, 1}, []int32{gotFirst.Load(), gotSecond.Load()}, fmt.Sprint(a, b))
	})
}
