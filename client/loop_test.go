//go:build linux && !noloops

package client_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

// theLoop is what the tests' clients are on; it is started by the first one.
var theLoop = sync.OnceValue(func() *loop.Loop {
	l, err := loop.New()
	if err != nil {
		panic(err)
	}
	endLoop = func() { l.Stop(); <-l.Done() }
	return l
})

// Every test of transports runs on a loop as well.
func init() {
	for _, tt := range transports[:3] {
		onGoroutines := tt.client
		tt.name += " on a loop"
		tt.client = func(addr string, opts ...client.Option) *client.Client { return looped(onGoroutines(addr, opts...)) }
		transports = append(transports, tt)
	}
}

func looped(c *client.Client) *client.Client {
	if !c.OnLoop(theLoop()) {
		panic("not on a loop")
	}
	return c
}

func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}

func TestOnLoopRefuses(t *testing.T) {
	assert.False(t, client.NewTCP("127.0.0.1:1").OnLoop(nil))
	assert.False(t, client.NewTCP("127.0.0.1:1", client.WithTLS(nil)).OnLoop(theLoop()))
	assert.False(t, client.NewWebsocket("wss://127.0.0.1:1/").OnLoop(theLoop()))
	assert.False(t, client.NewWebsocket("http://127.0.0.1:1/").OnLoop(theLoop()))
	assert.False(t, client.NewClient(newFakeCore()).OnLoop(theLoop()))
}

// Clients on a loop have one goroutine, which waits for their end, and leave no descriptor.
func TestOnLoopLeavesNothing(t *testing.T) {
	for _, tt := range transports {
		if !strings.HasSuffix(tt.name, " on a loop") {
			continue
		}
		b := serve(t, tt.network).echo()
		visit := func() {
			c := tt.client(b.addr)
			l := observe(c)
			require.NoError(t, c.Run())
			c.Write([]byte("hello"))
			assert.Equal(t, "hello", await(t, l.packets, "echo").data)
			assert.Zero(t, running("(*connection).write"))
			c.Close()
			assert.Nil(t, await(t, l.closed, "closed event"))
			await(t, b.closed, "the server's")
		}
		visit()
		before := descriptors(t)
		for range 50 {
			visit()
		}
		require.Eventually(t, func() bool { return descriptors(t) <= before }, patience, time.Millisecond)
	}
}

// A second Run connects anew.
func TestOnLoopRunTwice(t *testing.T) {
	b := serve(t, server.NetworkTcp).echo()
	c := looped(client.NewTCP(b.addr))
	l := observe(c)
	for range 3 {
		require.NoError(t, c.Run())
		c.Write([]byte("hello"))
		assert.Equal(t, "hello", await(t, l.packets, "echo").data)
		c.Close()
		assert.Nil(t, await(t, l.closed, "closed event"))
	}
	require.NoError(t, c.Run())
	require.NoError(t, c.Run(), "which closes the one before")
	assert.Nil(t, await(t, l.closed, "closed event"))
	c.Write([]byte("hello"))
	assert.Equal(t, "hello", await(t, l.packets, "echo").data)
	c.Close()
	assert.Nil(t, await(t, l.closed, "closed event"))
	assert.Empty(t, l.closed)
}

// Abort gives ErrClosed to what is queued, and the closed event its reason.
func TestOnLoopAbort(t *testing.T) {
	release := make(chan struct{})
	addr := listen(t, func(*net.TCPConn) { <-release })
	defer close(release)
	c := looped(client.NewTCP(addr, client.WithWriteBytes(64<<20)))
	l := observe(c)
	require.NoError(t, c.Run())
	const n = 400
	outcomes := make(chan error, n)
	for range n {
		c.Write(make([]byte, 64<<10), func(err error) { outcomes <- err })
	}
	enough := errors.New("enough")
	c.Abort(enough)
	assert.Equal(t, enough, await(t, l.closed, "closed event"))
	var last error
	for range n {
		err := await(t, outcomes, "callback")
		if last != nil {
			assert.Error(t, err, "in order")
		}
		last = err
	}
	assert.ErrorIs(t, last, client.ErrClosed)
}

// A server that doesn't read: the write timeout ends the connection, and others on the loop are served meanwhile.
func TestOnLoopWriteTimeout(t *testing.T) {
	release := make(chan struct{})
	addr := listen(t, func(*net.TCPConn) { <-release })
	defer close(release)
	b := serve(t, server.NetworkTcp).echo()
	other := looped(client.NewTCP(b.addr))
	heard := observe(other)
	require.NoError(t, other.Run())
	defer other.Close()
	c := looped(client.NewTCP(addr, client.WithWriteBytes(64<<20), client.WithWriteTimeout(300*time.Millisecond)))
	l := observe(c)
	require.NoError(t, c.Run())
	const n = 400
	outcomes := make(chan error, n)
	for range n {
		c.Write(make([]byte, 64<<10), func(err error) { outcomes <- err })
	}
	for range 3 {
		other.Write([]byte("still there?"))
		await(t, heard.packets, "echo")
	}
	err, _ := await(t, l.closed, "closed event").(error)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	for range n {
		err = await(t, outcomes, "callback")
	}
	assert.Error(t, err)
}

// A server that reads by fits and starts gets all of it whole and in order, and Close writes it first.
func TestOnLoopPartialWrites(t *testing.T) {
	const packets = 300
	r := rand.New(rand.NewPCG(5, 6))
	var want strings.Builder
	goOn, got := make(chan struct{}), make(chan string, 1)
	addr := listen(t, func(conn *net.TCPConn) {
		var all strings.Builder
		for range goOn {
			if _, err := io.CopyN(&all, conn, 256<<10); err != nil {
				break
			}
		}
		_, _ = io.Copy(&all, conn)
		got <- all.String()
	})
	c := looped(client.NewTCP(addr, client.WithWriteBytes(64<<20), client.WithWriteTimeout(patience)))
	l := observe(c)
	require.NoError(t, c.Run())
	written := make(chan int, packets)
	for i := range packets {
		packet := make([]byte, r.IntN(1+r.IntN(64<<10)))
		for j := range packet {
			packet[j] = byte(r.Uint32())
		}
		want.Write(framed(string(packet)))
		c.Write(packet, func(err error) {
			assert.NoError(t, err)
			written <- i
		})
	}
	for range 5 {
		goOn <- struct{}{}
	}
	closing := make(chan struct{})
	go func() { defer close(closing); c.Close() }()
	close(goOn)
	await(t, closing, "end of Close")
	assert.True(t, want.String() == await(t, got, "all of it"), "it arrived changed")
	assert.Nil(t, await(t, l.closed, "closed event"))
	for i := range packets {
		assert.Equal(t, i, await(t, written, "callback"), "in order")
	}
}

// A loop that ends takes its clients with it, and who comes too late.
func TestOnLoopThatEnds(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	own, err := loop.New()
	require.NoError(t, err)
	c := client.NewTCP(b.addr)
	require.True(t, c.OnLoop(own))
	l := observe(c)
	require.NoError(t, c.Run())
	own.Stop()
	assert.Equal(t, loop.ErrStopped, await(t, l.closed, "closed event"))
	await(t, own.Done(), "end of the loop")
	await(t, b.closed, "the server's")
	before := descriptors(t)

	late := client.NewTCP(b.addr)
	require.True(t, late.OnLoop(own))
	assert.Equal(t, loop.ErrStopped, late.Run(true))
	await(t, b.closed, "the server's")
	show, conns := dialed()
	for range 20 { // closed while it dials, or before it is on its loop
		closed := client.NewTCP(b.addr, show)
		require.True(t, closed.OnLoop(own))
		ended := make(chan error, 1)
		go func() { ended <- closed.Run(true) }()
		await(t, conns, "socket")
		runtime.Gosched()
		closed.Close()
		await(t, ended, "end of Run")
	}
	require.Eventually(t, func() bool { return descriptors(t) <= before && b.GetOnlineCount() == 0 }, patience, time.Millisecond)
}

func TestRFC6455OnLoop(t *testing.T) {
	conformance.RFC6455Client(t, func(addr string, opts ...client.Option) *client.Client {
		return looped(client.NewWebsocket(addr, opts...))
	})
}

func init() {
	moreWebsockets = append(moreWebsockets, websocketWay{"ws on a loop", false, func(addr string, opts ...client.Option) *client.Client {
		return looped(client.NewWebsocket("ws://"+addr+"/ws", opts...))
	}})
}
