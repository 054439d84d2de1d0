package client_test

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
)

// fakeCore is a transport of one's own: it writes to a channel and reads from one.
type fakeCore struct {
	outcome func(runState chan<- error) bool // says how connecting went, and whether to go on; nil: it connects
	ended   func()                           // the last thing that Run does; nil: nothing
	fail    error                            // of Write
	hold    chan struct{}                    // Write waits for it to be closed

	writes chan *client.Packet
	reads  chan received

	closeOnce sync.Once
	closed    chan struct{}

	clones chan *fakeCore // shared with every clone: those that were made
}

func newFakeCore() *fakeCore {
	return &fakeCore{
		writes: make(chan *client.Packet, 1<<10), reads: make(chan received, 1<<10), closed: make(chan struct{}),
		clones: make(chan *fakeCore, 16),
	}
}

func (c *fakeCore) Run(runState chan<- error, receive func(wst int, packet []byte)) {
	if c.ended != nil {
		defer c.ended()
	}
	if c.outcome != nil {
		if !c.outcome(runState) {
			return
		}
	} else {
		runState <- nil
	}
	for {
		select {
		case r := <-c.reads:
			receive(r.wst, []byte(r.data))
		case <-c.closed:
			return
		}
	}
}

func (c *fakeCore) Write(packet *client.Packet) error {
	if c.fail != nil {
		return c.fail
	}
	c.writes <- packet
	if c.hold != nil {
		<-c.hold
	}
	return nil
}

func (c *fakeCore) Close()                { c.closeOnce.Do(func() { close(c.closed) }) }
func (c *fakeCore) GetServerAddr() string { return "fake" }

func (c *fakeCore) Clone() client.Core {
	clone := newFakeCore()
	clone.clones = c.clones
	c.clones <- clone
	return clone
}

// awaitTrue waits until something that has no channel to tell it has become so.
func awaitTrue(t testing.TB, true func() bool, what string) {
	t.Helper()
	require.Eventually(t, true, patience, time.Millisecond, what)
}

func TestCore(t *testing.T) {
	core := newFakeCore()
	c := client.NewClient(core)
	l := observe(c)
	assert.Equal(t, "fake", c.GetServerAddr())
	assert.True(t, c.KeepsBoundaries())
	assert.Equal(t, client.DefaultMaxPacketSize, c.MaxPacketSize())
	require.NoError(t, c.Run())
	core.reads <- received{2, "in"}
	assert.Equal(t, received{2, "in"}, await(t, l.packets, "packet"))
	c.WriteWS(1, []byte("out"))
	p := await(t, core.writes, "write")
	assert.Equal(t, 1, p.Type())
	assert.Equal(t, "out", string(p.Bytes()))
	c.Close()
	await(t, core.closed, "Close of the core")
	assert.Nil(t, await(t, l.closed, "closed event"))
	assertJoined(t)
}

func TestCoreFails(t *testing.T) {
	reason := errors.New("no such place")
	say := func(err error) func(chan<- error) bool {
		return func(state chan<- error) bool { state <- err; return false }
	}
	silence := func(chan<- error) bool { return false }
	for _, tt := range []struct {
		name    string
		outcome func(chan<- error) bool
		ended   func()
		run     error // of Run, which names it
		message string
		closed  any // what the closed event gets; not looked at where Run fails
	}{
		{name: "says an error", outcome: say(reason), run: reason},
		{name: "says an error and panics", outcome: say(reason), ended: func() { panic("later") }, run: reason},
		{name: "panics with an error", outcome: silence, ended: func() { panic(reason) }, run: reason},
		{name: "panics with a text", outcome: silence, ended: func() { panic("broken") }, message: "client: core panicked: broken"},
		{name: "returns without a word", outcome: silence, run: client.ErrClosed},
		{name: "connects and returns", outcome: say(nil)},
		{name: "connects and panics with io.EOF", outcome: say(nil), ended: func() { panic(io.EOF) }},
		{name: "connects and panics", outcome: say(nil), ended: func() { panic(reason) }, closed: reason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // in whatever order the goroutines come
				core := newFakeCore()
				core.outcome, core.ended = tt.outcome, tt.ended
				c := client.NewClient(core)
				l := observe(c)
				var err error
				within(t, "Run", func() { err = c.Run() })
				if tt.message != "" {
					require.EqualError(t, err, tt.message)
				} else {
					require.ErrorIs(t, err, tt.run)
				}
				if err == nil {
					assert.Equal(t, tt.closed, await(t, l.closed, "closed event"))
					assert.Equal(t, []string{"opened", "closed"}, l.all())
				} else {
					assert.Empty(t, l.all())
				}
				await(t, core.closed, "Close of the core")
				assert.False(t, c.IsConnected())
			}
		})
	}
}

func TestCoreWriteFails(t *testing.T) {
	core := newFakeCore()
	core.fail = errors.New("broken wire")
	c := client.NewClient(core)
	l := observe(c)
	outcomes := make(chan error, 3)
	c.RegConnectionOpenedEvent(func(c *client.Client) {
		for range cap(outcomes) {
			c.Write([]byte("x"), func(err error) { outcomes <- err })
		}
	})
	require.Equal(t, core.fail, c.Run(true))
	for range cap(outcomes) {
		assert.Error(t, await(t, outcomes, "callback"))
	}
	assert.Equal(t, core.fail, await(t, l.closed, "closed event"))
	await(t, core.closed, "Close of the core")
	assert.Empty(t, outcomes)
}

func TestCoreIsClonedForEachFurtherRun(t *testing.T) {
	core := newFakeCore()
	c := client.NewClient(core)
	l := observe(c)
	require.NoError(t, c.Run())
	assert.Empty(t, core.clones, "the first Run uses the core itself")
	for range 2 {
		require.NoError(t, c.Run())
		clone := await(t, core.clones, "clone")
		clone.reads <- received{0, "from a clone"}
		assert.Equal(t, "from a clone", await(t, l.packets, "packet").data)
		c.Close()
		await(t, clone.closed, "Close of the clone")
	}
	await(t, core.closed, "Close of the core")
}

func TestCloneClient(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network).echo()
			c := tt.client(b.addr, client.WithMaxPacketSize(1234))
			l := observe(c)
			require.NoError(t, c.Run())
			clone := client.CloneClient(c)
			assert.Equal(t, c.GetServerAddr(), clone.GetServerAddr())
			assert.Equal(t, 1234, clone.MaxPacketSize(), "the same options")
			assert.False(t, clone.IsConnected())

			echoed := make(chan string, 1)
			clone.RegConnectionReceivePacketEvent(func(conn *client.Client, _ int, packet []byte) {
				assert.True(t, clone == conn)
				echoed <- string(packet)
			})
			require.NoError(t, clone.Run())
			clone.Write([]byte("x"))
			assert.Equal(t, "x", await(t, echoed, "echo"))
			clone.Close()
			assert.True(t, c.IsConnected(), "the other goes on")
			assert.Equal(t, []string{"opened"}, l.all(), "the clone has none of its handlers")
			c.Close()
		})
	}
	t.Run("core", func(t *testing.T) {
		core := newFakeCore()
		require.NoError(t, client.CloneClient(client.NewClient(core)).Run())
		clone := await(t, core.clones, "clone")
		clone.Close()
	})
}

func TestKeepsBoundaries(t *testing.T) {
	assert.True(t, client.NewTCP("a:1").KeepsBoundaries())
	assert.True(t, client.NewWebsocket("ws://a").KeepsBoundaries())
	assert.True(t, client.NewUnixDomainSocket("a", client.WithFramer(client.LineFramer())).KeepsBoundaries())
	raw := client.NewTCP("a:1", client.WithFramer(client.RawFramer()))
	assert.False(t, raw.KeepsBoundaries())
	assert.False(t, client.CloneClient(raw).KeepsBoundaries())
}
