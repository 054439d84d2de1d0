package gateway_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
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

var nobody = gateway.NewStaticScanner()

func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	for _, test := range []struct {
		name, addr, says string
		gateway          *gateway.Gateway
		is               error
	}{
		{"no scanner", "127.0.0.1:0", "no scanner", gateway.NewGateway(server.New("tcp"), nil), gateway.ErrBadOption},
		{"no server", "127.0.0.1:0", "no server", gateway.NewGateway(nil, nobody), gateway.ErrBadOption},
		{"bad option", "127.0.0.1:0", "-1s", gateway.NewGateway(server.New("tcp"), nobody, gateway.WithShutdownTimeout(-time.Second)), gateway.ErrBadOption},
		{"empty address", "", `""`, gateway.NewGateway(server.New("tcp"), nobody), server.ErrBadAddress},
		{"illegal address", "nonsense", `"nonsense"`, gateway.NewGateway(server.New("websocket"), nobody), server.ErrBadAddress},
		{"port in use", taken.Addr().String(), taken.Addr().String(), gateway.NewGateway(server.New("tcp"), nobody), nil},
		{"not a dead socket", file, file, gateway.NewGateway(server.New("unix"), nobody), server.ErrNotDeadSocket},
		{"no transport", "127.0.0.1:0", "kcp", gateway.NewGateway(server.New("kcp"), nobody), server.ErrNetworkUnsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // an error is no end: Run may be called again
				err := test.gateway.Run(test.addr)
				require.Error(t, err)
				assert.ErrorContains(t, err, test.says)
				if test.is != nil {
					assert.ErrorIs(t, err, test.is)
				}
				assert.NotErrorIs(t, err, gateway.ErrGatewayClosed)
			}
		})
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(content))
	assert.Panics(t, func() { server.New("carrier pigeon") }, "as the contract has it")
}

// A gateway that could not listen serves when it is run again.
func TestRunAgainAfterError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(e)), network: "tcp"}
	require.Error(t, g.Run(taken.Addr().String()))
	assert.Zero(t, e.Links(), "nothing was started")
	g.run(t, "")
	ready(t, 1, e)
}

func TestLifeCycle(t *testing.T) {
	g := newGateway(t, "tcp", "game", nobody)
	assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrGatewayRunning)
	g.Shutdown()
	g.Shutdown()
	require.NoError(t, g.ShutdownContext(t.Context()))
	assert.ErrorIs(t, g.Run("127.0.0.1:0"), gateway.ErrGatewayClosed)

	before := gateway.NewGateway(server.New("tcp"), nobody)
	before.Shutdown()
	assert.NoError(t, before.ShutdownContext(t.Context()), "never run")
	assert.ErrorIs(t, before.Run("127.0.0.1:0"), gateway.ErrGatewayClosed)

	same := newGateway(t, "tcp", "game", nobody)
	same.Server().Shutdown()
	require.NoError(t, same.ShutdownContext(t.Context()))
	assert.ErrorIs(t, same.Run("127.0.0.1:0"), gateway.ErrGatewayClosed, "the server's Shutdown is the gateway's")

	direct := gateway.NewGateway(server.New("tcp"), nobody)
	direct.Server().Shutdown()
	assert.ErrorIs(t, direct.Run("127.0.0.1:0"), gateway.ErrGatewayClosed)
}

func TestShutdownFromHandler(t *testing.T) {
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), nobody), network: "tcp"}
	g.run(t, "")
	ended := make(chan error, 1)
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, _ *server.Conn, _ []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		ended <- g.ShutdownContext(ctx)
	})
	newBot(t, "tcp", g.address).Write([]byte("x"))
	assert.ErrorIs(t, <-ended, context.DeadlineExceeded, "from a handler only ctx can end it")
	assert.NoError(t, g.ShutdownContext(t.Context()))
}

func TestShutdownFlushes(t *testing.T) {
	const packets = 200
	b := newBackend(t, "tcp", func([]byte) []byte { return nil })
	e := b.endpoint("game")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	g.RegConnectionClosedEventHandle(func(_ *gateway.Gateway, conn *server.Conn) {
		e.Forward(conn, []byte("left")) // an endpoint can be told who left
	})
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	for n := range packets {
		bot.Write(numbered(0, n))
	}
	require.Eventually(t, func() bool { return g.Stats().PacketsReceived == packets }, patience, time.Millisecond)
	require.NoError(t, g.ShutdownContext(t.Context()))
	require.Eventually(t, func() bool { return b.srv.GetOnlineCount() == 0 }, patience, time.Millisecond)
	require.Len(t, b.all, packets+1)
	assert.Equal(t, "left", b.all[packets])
}

func TestEvents(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game", gateway.WithEndpointConnectionPoolSize(3))
	g := &fixture{Gateway: gateway.NewGateway(server.New("tcp"), gateway.NewStaticScanner(e)), network: "tcp"}
	var mu sync.Mutex
	var heard []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, what)
	}
	var opened, closed atomic.Int32
	g.RegEndpointConnectOpenedEventHandle(func(_ *gateway.Gateway, who *gateway.Endpoint) {
		assert.True(t, e == who)
		opened.Add(1)
	})
	g.RegEndpointConnectClosedEventHandle(func(*gateway.Gateway, *gateway.Endpoint) { closed.Add(1) })
	g.RegConnectionOpenedEventHandle(func(*gateway.Gateway, *server.Conn) { note("opened second") }, 1)
	g.RegConnectionOpenedEventHandle(func(*gateway.Gateway, *server.Conn) { note("opened first") }, -1)
	g.RegConnectionReceivePacketEventHandle(func(g *gateway.Gateway, conn *server.Conn, packet []byte) {
		note("packet " + string(packet))
		e.Forward(conn, packet)
	})
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, packet []byte) {
		note("reply " + string(packet))
		conn.Write(packet)
	})
	done := make(chan struct{})
	g.RegConnectionClosedEventHandle(func(*gateway.Gateway, *server.Conn) { note("closed"); close(done) })
	g.run(t, "")
	ready(t, 3, e)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("a"))
	bot.ask(t, []byte("b"))
	bot.Close()
	<-done
	require.NoError(t, g.ShutdownContext(t.Context()))
	assert.Equal(t, []string{"opened first", "opened second", "packet a", "reply a", "packet b", "reply b", "closed"}, heard)
	assert.EqualValues(t, 3, opened.Load(), "once for each link")
	assert.EqualValues(t, 3, closed.Load())

	// On runs what is registered, at any time.
	g.OnConnectionOpenedEvent(nil)
	g.OnEndpointConnectOpenedEvent(e)
	assert.EqualValues(t, 4, opened.Load())
	assert.Equal(t, "opened second", heard[len(heard)-1])
}

func TestForwardRefuses(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := gateway.NewEndpoint("game", client.NewTCP(b.address, client.WithMaxPacketSize(100)))
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	var failures atomic.Int32
	g.RegForwardFailedEventHandle(func(_ *gateway.Gateway, who *gateway.Endpoint, _ *server.Conn, _ []byte, err error) {
		assert.True(t, e == who)
		assert.Error(t, err)
		failures.Add(1)
	})
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("x"))
	conn := onlyConn(t, g)

	outcome := make(chan error, 4)
	note := func(err error) { outcome <- err }
	e.Forward(conn, make([]byte, 101), note, nil, note)
	for range 2 {
		err := <-outcome
		assert.ErrorIs(t, err, gateway.ErrPacketTooLarge)
		assert.ErrorContains(t, err, "101")
		assert.ErrorContains(t, err, "100")
	}
	e.Forward(nil, []byte("x"), note)
	assert.ErrorIs(t, <-outcome, gateway.ErrConnectionNotFound)
	e.Forward(conn, make([]byte, 100), note)
	assert.NoError(t, <-outcome)
	bot.next(t)
	bot.Close()
	require.Eventually(t, func() bool { return e.Sessions() == 0 }, patience, time.Millisecond)
	e.Forward(conn, []byte("x"), note)
	err := <-outcome
	assert.ErrorIs(t, err, gateway.ErrConnectionNotFound, "a closed conn")
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.EqualValues(t, 3, failures.Load())
	assert.EqualValues(t, 3, g.Stats().ForwardsFailed)
}

// An endpoint can't reach a conn that was never forwarded to it.
func TestEndpointReachesOnlyItsOwn(t *testing.T) {
	nice, nosy := newBackend(t, "tcp", nil), newBackend(t, "tcp", nil)
	e, spy := nice.endpoint("game"), nosy.endpoint("other")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e, spy))
	ready(t, 1, e, spy)
	victim, accomplice := newBot(t, "tcp", g.address), newBot(t, "tcp", g.address)
	victim.ask(t, []byte("x"))
	accomplice.ask(t, []byte("x"))
	addr := nice.clients()
	require.Len(t, addr, 2)
	for _, link := range nosy.online(t, 1) {
		for _, target := range append(addr, "0.0.0.0:0", "9.9.9.9:9") {
			nosy.write(t, link, target, []byte("gotcha"))
		}
		link.Write([]byte("short"))
	}
	var stats gateway.Stats
	dropped := func() uint64 {
		return stats.DroppedNotOpen + stats.DroppedControl + stats.DroppedUnknown + stats.DroppedMalformed
	}
	require.Eventually(t, func() bool { stats = g.Stats(); return dropped() == 5 }, patience, time.Millisecond)
	assert.EqualValues(t, 2+5, stats.PacketsFromEndpoints)
	assert.EqualValues(t, 2, stats.DroppedNotOpen)
	assert.EqualValues(t, 1, stats.DroppedControl)
	assert.EqualValues(t, 1, stats.DroppedUnknown)
	assert.EqualValues(t, 1, stats.DroppedMalformed)
	assert.Equal(t, stats.PacketsFromEndpoints, stats.PacketsDelivered+dropped())
	assert.Equal(t, "safe", string(victim.ask(t, []byte("safe"))))
	assert.Equal(t, 1, spy.Links(), "the link lives")
}

// A client whose packets fill its share of a link is closed, and nobody else.
func TestFloodingClientIsClosed(t *testing.T) {
	block := make(chan struct{})
	b := newBackend(t, "tcp", func(packet []byte) []byte {
		<-block
		return nil
	})
	unblock := sync.OnceFunc(func() { close(block) })
	t.Cleanup(unblock)
	e := b.endpoint("game")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	var flooding atomic.Int32
	g.RegForwardFailedEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, _ *server.Conn, _ []byte, err error) {
		if assert.ErrorIs(t, err, gateway.ErrFlooding) {
			flooding.Add(1)
		}
	})
	ready(t, 1, e)
	quiet := newBot(t, "tcp", g.address)
	quiet.Write([]byte("x"))
	flood := newBot(t, "tcp", g.address)
	for flood.IsConnected() {
		wrote := make(chan struct{})
		flood.Write(make([]byte, 32<<10), func(error) { close(wrote) })
		<-wrote
	}
	assert.True(t, quiet.IsConnected())
	assert.Equal(t, 1, e.Links())
	assert.Eventually(t, func() bool { return flooding.Load() > 0 }, patience, time.Millisecond, "the event comes behind the end")
	unblock() // so that the link can be flushed before it is closed
}

// ConnectionClosed handlers can still forward; and the endpoint's late reply finds nobody.
func TestGoodbyeIsForwarded(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	outcome := make(chan error, 1)
	g.RegConnectionClosedEventHandle(func(_ *gateway.Gateway, conn *server.Conn) {
		assert.True(t, conn.IsClosed())
		e.Forward(conn, []byte("bye"), func(err error) { outcome <- err })
	})
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	bot.ask(t, []byte("hello"))
	bot.Close()
	assert.NoError(t, <-outcome)
	require.Eventually(t, func() bool { return g.Stats().DroppedUnknown == 1 && gateway.OpenSessions(e) == 0 }, patience, time.Millisecond)
}

// Every packet from an endpoint is handled with a view of its own, whatever earlier handlers did with theirs.
func TestDeliveriesShareNoView(t *testing.T) {
	b := newBackend(t, "tcp", nil)
	e := b.endpoint("game")
	g := &fixture{Gateway: gateway.NewGateway(server.New("websocket"), gateway.NewStaticScanner(e)), network: "websocket"}
	g.RegConnectionReceivePacketEventHandle(func(_ *gateway.Gateway, conn *server.Conn, packet []byte) { e.Forward(conn, packet) })
	kept := make(chan *server.Conn, 2)
	g.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, _ *gateway.Endpoint, conn *server.Conn, _ []byte) { kept <- conn })
	g.run(t, "")
	ready(t, 1, e)
	bot := newBot(t, "websocket", g.address)
	bot.Write([]byte("1"))
	bot.Write([]byte("2"))
	one, two := <-kept, <-kept
	one.SetMessageData("k", "first").SetWST(server.WebsocketMessageTypeText)
	assert.Nil(t, two.GetMessageData("k"))
	assert.Equal(t, server.WebsocketMessageTypeBinary, two.GetWST())
}

// Nothing is delivered once the closed handlers run, and all of them run, whichever panics.
func TestClosedHandlersComeLast(t *testing.T) {
	b := newBackend(t, "tcp", func([]byte) []byte { return nil })
	e := b.endpoint("game")
	// On an event loop nothing else would happen while a delivery is stopped.
	g := newGatewayWith(t, server.New("tcp", server.WithEngine(server.EngineGoroutines)), "", "game", gateway.NewStaticScanner(e))
	inDelivery, free, closing := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var delivering, closed atomic.Bool
	g.RegEndpointConnectReceivePacketEventHandle(func(*gateway.Gateway, *gateway.Endpoint, *server.Conn, []byte) {
		assert.False(t, closed.Load(), "delivered after the closed handlers")
		delivering.Store(true)
		close(inDelivery)
		<-free
		delivering.Store(false)
	})
	g.RegConnectionClosedEventHandle(func(*gateway.Gateway, *server.Conn) {
		assert.False(t, delivering.Load(), "closed while a packet was delivered")
		closed.Store(true)
		panic("closed")
	})
	late := make(chan struct{})
	g.RegConnectionClosedEventHandle(func(*gateway.Gateway, *server.Conn) { close(closing); <-late }, 1)
	ready(t, 1, e)
	bot := newBot(t, "tcp", g.address)
	bot.Write([]byte("x"))
	require.Eventually(t, func() bool { return len(b.clients()) == 1 }, patience, time.Millisecond)
	b.push(t, b.clients()[0], []byte("one"))
	<-inDelivery
	conn := onlyConn(t, g)
	bot.Close()
	require.Eventually(t, func() bool { return gateway.Leaving(g.Gateway, conn) }, patience, time.Millisecond)
	close(free)
	<-closing
	b.push(t, b.clients()[0], []byte("two"))
	require.Eventually(t, func() bool { return g.Stats().DroppedUnknown == 1 }, patience, time.Millisecond)
	close(late)
	assert.EqualValues(t, 1, g.Stats().HandlerPanics)
}

// What the contract names is returned as it is, so that programs may compare.
func TestSentinelsAreBare(t *testing.T) {
	g := gateway.NewGateway(server.New("tcp"), nobody)
	_, err := g.GetEndpoint("game")
	assert.Equal(t, gateway.ErrEndpointNotExists, err)
	_, err = g.GetEndpointByKey("game", "key")
	assert.Equal(t, gateway.ErrEndpointNotExists, err)
	g.Server().Shutdown()
	assert.Equal(t, gateway.ErrGatewayClosed, g.Run("127.0.0.1:0"))
	g.Shutdown()
	assert.Equal(t, gateway.ErrGatewayClosed, g.Run("127.0.0.1:0"))
}

// Another gateway's endpoint is no source.
func TestSwitchEndpointOfAnotherGateway(t *testing.T) {
	a, b := newBackend(t, "tcp", nil), newBackend(t, "tcp", nil)
	ea, eb := a.endpoint("game"), b.endpoint("game")
	ga, gb := newGateway(t, "tcp", "game", gateway.NewStaticScanner(ea)), newGateway(t, "tcp", "game", gateway.NewStaticScanner(eb))
	ready(t, 1, ea, eb)
	newBot(t, "tcp", ga.address).ask(t, []byte("x"))
	gb.SwitchEndpoint(ea, eb)
	ga.SwitchEndpoint(ea, eb)
	assert.Equal(t, []int{1, 0}, []int{ea.Sessions(), eb.Sessions()})
}

// For a second after a move the old endpoint's replies are delivered and Forwards to it follow. Then neither.
func TestMoveGraceEnds(t *testing.T) {
	var endpoints []*gateway.Endpoint
	inWorld(t, time.Hour, func(w *world) found {
		if endpoints == nil {
			endpoints = []*gateway.Endpoint{w.endpoint("a"), w.endpoint("b")}
		}
		return found{endpoints: endpoints}
	}, func(w *world) {
		var delayA, delayB atomic.Int64
		defer w.backend("a", &delayA)()
		defer w.backend("b", &delayB)()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a, b := endpoints[0], endpoints[1]
		cli, got := w.join()
		defer cli.Close()
		var conn *server.Conn
		for _, conn = range w.Server().GetOnlineAll() {
		}
		a.Forward(conn, []byte("bind"))
		<-got
		for _, test := range []struct {
			delay     time.Duration
			delivered bool
		}{{900 * time.Millisecond, true}, {1100 * time.Millisecond, false}} {
			a.Forward(conn, []byte("back"))
			<-got
			delayA.Store(int64(test.delay))
			a.Forward(conn, []byte("slow"))
			w.SwitchEndpoint(a, b)
			time.Sleep(test.delay + 50*time.Millisecond)
			synctest.Wait()
			assert.Equal(t, test.delivered, len(got) == 1, "a reply %v after the move", test.delay)
			for len(got) > 0 {
				<-got
			}
			delayA.Store(0)
			before := b.Sessions()
			a.Forward(conn, []byte("where to"))
			<-got
			if test.delivered { // not 50 ms later than the grace
				assert.Equal(t, before, b.Sessions(), "it follows the move")
			} else {
				assert.Equal(t, before-1, b.Sessions(), "it goes where it says")
			}
			time.Sleep(2 * time.Second)
		}
		assert.EqualValues(t, 1, w.Stats().DroppedNotOpen)
	})
}
