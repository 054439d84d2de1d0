package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestCloseFromUsersCode(t *testing.T) {
	reason := errors.New("enough")
	for _, tt := range transports {
		b := serve(t, tt.network).echo()
		for _, from := range []string{"opened", "receive", "closed", "callback"} {
			t.Run(tt.name+"/"+from, func(t *testing.T) {
				c := tt.client(b.addr, client.WithWriteTimeout(time.Hour))
				returned := make(chan struct{}, 1)
				closing := func() { c.Close(reason); returned <- struct{}{} }
				var callback func(error)
				switch from {
				case "opened":
					c.RegConnectionOpenedEvent(func(*client.Client) { closing() })
				case "receive":
					c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { closing() })
				case "closed":
					c.RegConnectionClosedEvent(func(*client.Client, any) { closing() })
				case "callback":
					callback = func(error) { closing() }
				}
				l := observe(c)
				require.NoError(t, c.Run())
				c.Write([]byte("x"), callback)
				if from == "closed" {
					await(t, l.packets, "echo")
					c.Close(reason)
				}
				await(t, returned, "return of Close")
				assert.Equal(t, reason, await(t, l.closed, "closed event"))
				assert.False(t, c.IsConnected())
				c.Close()
				assert.Len(t, l.opened, 1)
				assert.Empty(t, l.closed, "one closed event")
			})
		}
	}
}

func TestCloseJoins(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network).echo()
			c := tt.client(b.addr)
			for range 20 {
				require.NoError(t, c.Run())
				c.Write([]byte("x"))
				c.Close()
				assertJoined(t)
			}
		})
	}
}

func TestCloseWritesWhatWasQueued(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			c := tt.client(b.addr)
			require.NoError(t, c.Run())
			const n = 2000
			outcomes := make(chan error, n)
			for i := range n {
				c.Write(numbered(i), func(err error) { outcomes <- err })
			}
			await(t, outcomes, "first callback") // at least one callback is behind us, the others may be running
			c.Close()
			for range n - 1 {
				require.NoError(t, await(t, outcomes, "callback"))
			}
			for i := range n {
				require.Equal(t, string(numbered(i)), await(t, b.packets, "packet").data)
			}
			assert.Nil(t, await(t, b.closed, "end"), "the server sees an orderly end")
		})
	}
}

// What waits behind the packet being written is written before Close returns, callbacks or not.
func TestCloseWaitsForCallbacks(t *testing.T) {
	core := newFakeCore()
	core.hold = make(chan struct{})
	c := client.NewClient(core)
	require.NoError(t, c.Run())
	const n = 100
	outcomes := make(chan error, n)
	for range n {
		c.Write([]byte("x"), func(err error) { outcomes <- err })
	}
	await(t, core.writes, "first write")
	returned := make(chan int, 1)
	go func() { c.Close(); returned <- len(outcomes) }()
	awaitTrue(t, func() bool { return !c.IsConnected() }, "end of being connected")
	close(core.hold)
	assert.Equal(t, n, await(t, returned, "return of Close"))
	for range n {
		assert.NoError(t, <-outcomes)
	}
	assertJoined(t)
}

// A callback may wait for whoever called Close.
func TestCloseDoesNotWaitForAStuckCallback(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	c := client.NewTCP(b.addr, client.WithWriteTimeout(time.Hour))
	l := observe(c)
	require.NoError(t, c.Run())
	outcome := make(chan error)
	c.Write([]byte("x"), func(err error) { outcome <- err })
	within(t, "Close", func() { c.Close() })
	assert.NoError(t, await(t, outcome, "callback"))
	assert.Nil(t, await(t, l.closed, "closed event"))
}

// Nobody reads at the other end of a pipe, and so time tells exactly.
func TestCloseServerNeverReads(t *testing.T) {
	t.Run("stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inMemory, peers := pipes()
			c := client.NewTCP("peer:1", inMemory, client.WithWriteTimeout(time.Minute))
			neverReads(t, c, func() { defer (<-peers).Close() }, time.Minute)
		})
	})
	t.Run("ws", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inMemory, peers := pipes()
			c := client.NewWebsocket("ws://127.0.0.1:1/", inMemory, client.WithWriteTimeout(4*time.Second))
			go upgrade(t, peers)
			neverReads(t, c, func() {}, 4*time.Second)
		})
	})
}

func neverReads(t *testing.T, c *client.Client, free func(), timeout time.Duration) {
	l := observe(c)
	require.NoError(t, c.Run())
	defer free()
	outcomes := make(chan error, 2)
	for range 2 {
		c.Write(make([]byte, 1000), func(err error) { outcomes <- err })
		synctest.Wait()
	}
	start := time.Now()
	c.Close()
	assert.Equal(t, timeout, time.Since(start))
	assert.Error(t, <-outcomes)
	assert.Error(t, <-outcomes)
	assert.Nil(t, <-l.closed, "what Close was given")
	assertJoined(t)
}

// Each write goes well, but all of them together would take far longer than the write timeout.
func TestCloseServerReadsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inMemory, peers := pipes()
		c := client.NewTCP("peer:1", inMemory, client.WithWriteTimeout(time.Minute))
		require.NoError(t, c.Run())
		const n, size = 10, 64 << 10
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			peer := <-peers
			defer peer.Close()
			for range n {
				<-time.After(40 * time.Second)
				if _, err := io.CopyN(io.Discard, peer, 4+size); err != nil {
					return
				}
			}
		}()
		outcomes := make(chan error, n)
		for range n {
			c.Write(make([]byte, size), func(err error) { outcomes <- err })
		}
		start := time.Now()
		c.Close()
		assert.Equal(t, time.Minute, time.Since(start))
		assert.NoError(t, <-outcomes)
		for range n - 1 {
			assert.Error(t, <-outcomes)
		}
		<-ended
	})
}

// halfConn can end one direction, as a TCP connection can.
type halfConn struct {
	net.Conn
	ended chan struct{}
}

func (c halfConn) CloseWrite() error { close(c.ended); return nil }

// A server that doesn't end its side gets a second for that.
func TestCloseServerNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		half := halfConn{near, make(chan struct{})}
		c := client.NewTCP("peer:1", client.WithWriteTimeout(time.Minute), client.WithDialFunc(func(client.DialFunc) client.DialFunc {
			return func(context.Context, string, string) (net.Conn, error) { return half, nil }
		}))
		require.NoError(t, c.Run())
		start := time.Now()
		c.Close()
		assert.Equal(t, time.Second, time.Since(start))
		<-half.ended
	})
}

func TestCloseServerNeverReadsRealSocket(t *testing.T) {
	released := make(chan struct{})
	addr := listen(t, func(conn *net.TCPConn) {
		_ = conn.SetReadBuffer(4 << 10)
		<-released
	})
	defer close(released)
	c := client.NewTCP(addr, client.WithWriteTimeout(50*time.Millisecond), client.WithWriteBytes(1<<30))
	l := observe(c)
	require.NoError(t, c.Run())
	outcomes := make(chan error, 16) // that many MiB are more than two kernel buffers take
	for range cap(outcomes) {
		c.Write(make([]byte, 1<<20), func(err error) { outcomes <- err })
	}
	within(t, "Close", func() { c.Close() })
	var failed int
	for range cap(outcomes) {
		if await(t, outcomes, "callback") != nil {
			failed++
		}
	}
	assert.Positive(t, failed)
	await(t, l.closed, "closed event")
}

func TestCloseNotRunning(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	c := client.NewTCP(b.addr)
	l := observe(c)
	c.Close(errors.New("not running"))
	c.Abort(errors.New("not running"))
	require.NoError(t, c.Run())
	c.Close()
	c.Close(errors.New("too late"))
	c.Abort(errors.New("too late"))
	assert.Nil(t, await(t, l.closed, "closed event"))
	assert.Equal(t, []string{"opened", "closed"}, l.all())
}

// An error that wraps io.EOF is the caller's reason like any other.
func TestCloseReason(t *testing.T) {
	b := serve(t, server.NetworkTcp)
	for _, end := range []func(*client.Client, error){
		func(c *client.Client, err error) { c.Close(err) },
		(*client.Client).Abort,
	} {
		for _, reason := range []error{nil, errors.New("enough"), io.EOF} {
			c := client.NewTCP(b.addr)
			l := observe(c)
			outcome := make(chan error, 1)
			go func() { outcome <- c.Run(true) }()
			await(t, l.opened, "opened event")
			end(c, reason)
			got := await(t, l.closed, "closed event")
			if reason == nil {
				assert.True(t, got == nil, "an untyped nil, not %#v", got)
			} else {
				assert.Equal(t, reason, got)
			}
			assert.Equal(t, reason, await(t, outcome, "outcome"))
		}
	}
}

func TestAbort(t *testing.T) {
	core := newFakeCore()
	core.hold = make(chan struct{})
	c := client.NewClient(core)
	l := observe(c)
	require.NoError(t, c.Run())
	outcomes := make(chan error, 2)
	c.Write([]byte("being written"), func(err error) { outcomes <- err })
	await(t, core.writes, "write")
	c.Write([]byte("queued"), func(err error) { outcomes <- err })
	reason := errors.New("enough")
	within(t, "Abort", func() { c.Abort(reason) })
	assert.False(t, c.IsConnected())
	close(core.hold)
	await(t, outcomes, "first callback")
	assert.ErrorIs(t, await(t, outcomes, "second callback"), client.ErrClosed)
	assert.Equal(t, reason, await(t, l.closed, "closed event"))
	assert.Empty(t, core.writes, "nothing more was written")
}

// Below TLS there is a server that reads nothing any more: an alert would wait for it.
func TestAbortOverTLSServerNeverReads(t *testing.T) {
	cert := newCertificate(t)
	for _, scheme := range []string{"tls", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			inMemory, peers := pipes()
			opts := []client.Option{inMemory, client.WithTLS(cert.trusted()), client.WithWriteTimeout(time.Hour)}
			c := client.NewTCP("127.0.0.1:1", opts...)
			shaken := make(chan struct{})
			go func() {
				defer close(shaken)
				conn := cert.server(<-peers)
				t.Cleanup(func() { conn.NetConn().Close() })
				if scheme == "tls" {
					assert.NoError(t, conn.HandshakeContext(context.Background()))
					return
				}
				upgradeConn(t, conn)
			}()
			if scheme == "wss" {
				c = client.NewWebsocket("wss://127.0.0.1:1/", opts...)
			}
			l := observe(c)
			require.NoError(t, c.Run())
			await(t, shaken, "end of the handshake")
			outcome := make(chan error, 1)
			c.Write(make([]byte, 1000), func(err error) { outcome <- err })
			awaitTrue(t, func() bool { return running("(*connection).writeBatch") == 1 }, "write")
			within(t, "Abort", func() { c.Abort(nil) })
			assert.Error(t, await(t, outcome, "callback"))
			await(t, l.closed, "closed event")
		})
	}
}
