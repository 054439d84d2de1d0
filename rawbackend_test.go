package gateway_test

import (
	"bytes"
	"sync"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// More numbers of control packets.
const (
	attached, closeOf, release, join, cast, ping, pong, flowOf = 6, 8, 11, 13, 15, 16, 17, 18
)

// rawBackend is a backend made by hand, on a network in memory. It takes links and answers PINGs; the rest is up to the test.
type rawBackend struct {
	w *world

	mu       sync.Mutex // guards the rest
	links    []*rawBacklink
	instance byte // of the backend that the next link finds
}

// rawBacklink is a link at its end.
type rawBacklink struct {
	b     *rawBackend
	conn  *server.Conn
	heard []rawPacket   // guarded by rawBackend.mu, as is the next
	gate  chan struct{} // not nil: packets wait for its end, and behind the first nothing is read
}

// rawPacket is what a gateway said behind the handshake. Of data the kind is 0, and key is whom it is from.
type rawPacket struct {
	kind byte
	key  []byte
	body []byte
}

// runRawBackend runs a backend on the world's network, until the test stops it.
func runRawBackend(w *world, addr string) (b *rawBackend, stop func()) {
	b = &rawBackend{w: w}
	srv := w.net.Server(server.WithLinks(), server.WithLogger(quiet))
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) { conn.SetData("link", &rawBacklink{b: b, conn: conn}) })
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		conn.GetData("link").(*rawBacklink).packet(packet)
	})
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(addr) }()
	synctest.Wait()
	return b, func() { srv.Shutdown(); assert.NoError(w.t, <-ended) }
}

func (l *rawBacklink) packet(packet []byte) {
	l.b.mu.Lock()
	gate := l.gate
	l.b.mu.Unlock()
	if gate != nil {
		<-gate
	}
	p := rawPacket{key: bytes.Clone(packet[4:10]), body: bytes.Clone(packet[10:])}
	if isControl(packet, true) {
		p = rawPacket{kind: packet[10], body: bytes.Clone(packet[11:])}
	}
	switch p.kind {
	case hello:
		answer := forgedWelcome(1, nil, nil, p.body)
		l.b.mu.Lock()
		answer[12] = l.b.instance // its first byte
		l.b.links = append(l.b.links, l)
		l.b.mu.Unlock()
		l.conn.Write(answer)
		l.conn.Write(forgedReady())
	case ping:
		l.control(pong, p.body)
	default:
		l.b.mu.Lock()
		l.heard = append(l.heard, p)
		l.b.mu.Unlock()
	}
}

// said returns what the gateway said over the link since the last call.
func (l *rawBacklink) said() []rawPacket {
	synctest.Wait()
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	heard := l.heard
	l.heard = nil
	return heard
}

// lanes returns the backend's links once there are two: the first with something to say, and the other.
func (b *rawBackend) lanes() (busy, idle *rawBacklink) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Len(b.w.t, b.links, 2)
	busy, idle = b.links[0], b.links[1]
	if len(busy.heard) == 0 {
		busy, idle = idle, busy
	}
	return busy, idle
}

// only returns the backend's one link.
func (b *rawBackend) only() *rawBacklink { return b.newest(1) }

// newest returns the last of the n links that there were so far.
func (b *rawBackend) newest(n int) *rawBacklink {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Len(b.w.t, b.links, n)
	return b.links[n-1]
}

// control says a control packet.
func (l *rawBacklink) control(kind byte, body []byte) {
	l.conn.Write(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind}, body...))
}

// attached answers a resumed OPEN.
func (l *rawBacklink) attached(key []byte, number byte) {
	l.control(attached, append(append(bytes.Clone(key), 0, 0, 0, number, 0), make([]byte, 16)...))
}

func (l *rawBacklink) castAll(text string) { l.control(cast, append([]byte{2, 2}, text...)) }

func (l *rawBacklink) castGroup(group, text string) {
	l.control(cast, append(append([]byte{2, 1, byte(len(group))}, group...), text...))
}

func (l *rawBacklink) join(group string, key []byte) {
	l.control(join, append(append([]byte{byte(len(group))}, group...), key...))
}

// stall makes the link's end stop reading behind the next packet, until the gate is closed.
func (l *rawBacklink) stall() (gate chan struct{}) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.gate = make(chan struct{})
	return l.gate
}

// kinds is what packets are.
func kinds(packets []rawPacket) []byte {
	all := []byte{}
	for _, p := range packets {
		all = append(all, p.kind)
	}
	return all
}
