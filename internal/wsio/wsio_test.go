package wsio_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a server's end, which is the subject, and a plain gorilla client.
type pair struct {
	conn *wsio.Conn
	peer *websocket.Conn
	raw  *counted // below conn
}

// counted counts writes.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes int
	broken int // after so many bytes writes fail; -1: never
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	room := c.broken
	c.mu.Unlock()
	if room >= 0 && room < len(p) {
		n, _ := c.Conn.Write(p[:room])
		return n, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

type once struct{ conn chan net.Conn }

func (o once) Accept() (net.Conn, error) {
	conn, ok := <-o.conn
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (o once) Close() error   { return nil }
func (o once) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// hijack hands the upgrader a connection that gathers.
type hijack struct {
	http.ResponseWriter
	gather *wsio.GatherConn
}

func (h hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	_, rw, err := h.ResponseWriter.(http.Hijacker).Hijack()
	return h.gather, rw, err
}

// newPair upgrades a connection in memory.
func newPair(t *testing.T, limit int, deadline time.Duration, compress bool) *pair {
	near, far := net.Pipe()
	p := &pair{raw: &counted{Conn: far, broken: -1}}
	ln := once{make(chan net.Conn, 1)}
	ln.conn <- p.raw
	made := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(made)
		upgrader := websocket.Upgrader{EnableCompression: compress}
		gather := wsio.NewGatherConn(p.raw, time.Second)
		ws, err := upgrader.Upgrade(hijack{w, gather}, r, nil)
		if assert.NoError(t, err) {
			p.conn = wsio.NewConn(ws, gather, limit, deadline)
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return near, nil }, EnableCompression: compress}
	peer, _, err := dialer.Dial("ws://memory/", nil)
	require.NoError(t, err)
	p.peer = peer
	<-made
	close(ln.conn)
	<-served
	require.NoError(t, near.SetDeadline(time.Time{}))
	t.Cleanup(p.close)
	return p
}

func (p *pair) close() { p.conn.Close(); p.peer.Close() }

// listen reads at the peer until the end, and returns what it got.
func (p *pair) listen() <-chan string {
	got := make(chan string, 1000)
	go func() {
		defer close(got)
		for {
			kind, data, err := p.peer.ReadMessage()
			if err != nil {
				return
			}
			got <- string('0'+rune(kind)) + string(data)
		}
	}()
	return got
}

func packets(kind int, payloads ...string) []*frame.Packet {
	var all []*frame.Packet
	for _, payload := range payloads {
		all = append(all, frame.NewPacket(kind, []byte(payload), nil))
	}
	return all
}

// Many packets become one write, and what belongs on no WebSocket is refused without harm to the others.
func TestWritePacketsGathers(t *testing.T) {
	p := newPair(t, 100, 0, false)
	got := p.listen()
	p.raw.writes = 0
	list := append(packets(frame.KindText, "a", "", "b"), packets(7, "no such type")...)
	list = append(list, packets(frame.KindNone, "c")...)
	n, err := p.conn.WritePackets(list)
	require.NoError(t, err)
	assert.Equal(t, len(list), n)
	assert.Equal(t, 1, p.raw.writes)
	for i := range list {
		assert.Equal(t, i == 3, list[i].Refused())
	}
	for _, want := range []string{"1a", "1", "1b", "2c"} {
		assert.Equal(t, want, <-got)
	}

	p.raw.writes = 0
	large := strings.Repeat("x", 30<<10)
	n, err = p.conn.WritePackets(packets(frame.KindBinary, large, large, large, large, large))
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	assert.Equal(t, 3, p.raw.writes, "64 KiB at a time")
	p.close()
	for range got {
	}
}

// What a failing write took in full is told apart from what it did not.
func TestWritePacketsCountsWholePackets(t *testing.T) {
	for broken, want := range map[int]int{0: 0, 4: 0, 5: 1, 9: 1, 10: 2, 14: 2} { // each packet has 2 + 3 bytes
		p := newPair(t, 100, 0, false)
		got := p.listen()
		p.raw.mu.Lock()
		p.raw.broken = broken
		p.raw.mu.Unlock()
		n, err := p.conn.WritePackets(packets(frame.KindBinary, "abc", "def", "ghi"))
		assert.ErrorIs(t, err, io.ErrClosedPipe)
		assert.Equal(t, want, n, "%d bytes written", broken)
		p.close()
		for range got {
		}
	}
}

// Nothing is written behind a write that was cut short: it would complete the broken frame.
func TestNothingFollowsABrokenFrame(t *testing.T) {
	p := newPair(t, 1000, 0, false)
	got := p.listen()
	p.raw.mu.Lock()
	p.raw.broken = 2 + len("hello world") - 2 // all but the last two bytes
	p.raw.mu.Unlock()
	_, err := p.conn.WritePackets(packets(frame.KindBinary, "hello world"))
	require.Error(t, err)
	p.raw.mu.Lock()
	p.raw.broken = -1 // the peer reads again
	p.raw.mu.Unlock()
	assert.Error(t, p.conn.Ping())
	assert.Error(t, p.conn.Shutdown(1000, ""))
	_, err = p.conn.WritePackets(packets(frame.KindBinary, "x"))
	assert.Error(t, err)
	p.close()
	for packet := range got {
		assert.Fail(t, "the peer got a packet", packet)
	}
}

// The limit holds for what is on the wire and for what that inflates to.
func TestReadPacketLimits(t *testing.T) {
	for _, test := range []struct {
		name     string
		compress bool
		size     int
		fits     bool
	}{{"fits", false, 100, true}, {"too large", false, 101, false}, {"fits, compressed", true, 100, true}, {"inflates", true, 100_000, false}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, 100, 0, test.compress)
			got := p.listen()
			go func() { _ = p.peer.WriteMessage(websocket.TextMessage, make([]byte, test.size)) }()
			kind, packet, err := p.conn.ReadPacket()
			if test.fits {
				require.NoError(t, err)
				assert.Equal(t, frame.KindText, kind)
				assert.Len(t, packet, test.size)
			} else {
				assert.ErrorIs(t, err, frame.ErrPacketTooLarge)
				assert.ErrorContains(t, err, "100")
			}
			p.close()
			for range got {
			}
		})
	}
}

// A peer that is silent is cut at the deadline; a pong or a packet gives it another one, but not the parts of a packet.
func TestReadDeadline(t *testing.T) {
	const deadline = 10 * time.Second
	for _, test := range []struct {
		name string
		play func(p *pair)
		want time.Duration
	}{
		{"silence", func(*pair) {}, deadline},
		{"a packet", func(p *pair) { _ = p.peer.WriteMessage(websocket.TextMessage, nil) }, deadline + 7*time.Second},
		{"a pong", func(p *pair) { _ = p.peer.WriteControl(websocket.PongMessage, nil, time.Time{}) }, deadline + 7*time.Second},
		{"a ping in a packet", func(p *pair) {
			w, _ := p.peer.NextWriter(websocket.TextMessage)
			_, _ = w.Write(make([]byte, 5000)) // more than the peer's buffer: a frame leaves
			_ = p.peer.WriteControl(websocket.PingMessage, nil, time.Time{})
		}, deadline},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, 1<<20, deadline, false)
				got := p.listen()
				begun := time.Now()
				played := make(chan struct{})
				go func() {
					defer close(played)
					time.Sleep(7 * time.Second)
					test.play(p)
				}()
				var err error
				for err == nil {
					_, _, err = p.conn.ReadPacket()
				}
				assert.ErrorIs(t, err, wsio.ErrReadTimeout)
				assert.Equal(t, test.want, time.Since(begun))
				p.close()
				<-played
				for range got {
				}
			})
		})
	}
}

// A pong ends a silence, whether somebody has asked for it or not.
func TestSilentFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, 100, 0, false)
		p.peer.SetPingHandler(func(data string) error {
			time.Sleep(30 * time.Millisecond)
			return p.peer.WriteControl(websocket.PongMessage, []byte(data), time.Time{})
		})
		got := p.listen()
		read := make(chan struct{})
		go func() { defer close(read); _, _, _ = p.conn.ReadPacket() }()
		require.NoError(t, p.conn.Ping())
		time.Sleep(time.Second)
		assert.Equal(t, 970*time.Millisecond, p.conn.SilentFor())
		require.NoError(t, p.peer.WriteControl(websocket.PongMessage, nil, time.Time{})) // nobody asked
		synctest.Wait()
		assert.Zero(t, p.conn.SilentFor())
		p.close()
		<-read
		for range got {
		}
	})
}

// Ends that are orderly read as io.EOF.
func TestReadPacketEnds(t *testing.T) {
	for code, orderly := range map[int]bool{
		websocket.CloseNormalClosure: true, websocket.CloseGoingAway: true, websocket.CloseNoStatusReceived: true,
		websocket.ClosePolicyViolation: false, 4000: false,
	} {
		p := newPair(t, 100, 0, false)
		got := p.listen()
		said := make(chan error, 1)
		go func() {
			said <- p.peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "why"), time.Now().Add(time.Second))
		}()
		_, _, err := p.conn.ReadPacket()
		var bye *websocket.CloseError
		require.ErrorAs(t, err, &bye)
		assert.Equal(t, code, bye.Code)
		assert.Equal(t, orderly, errors.Is(err, io.EOF), "%d", code)
		assert.NoError(t, <-said)
		p.close()
		for range got {
		}
	}
}
