package conformance

import (
	"net"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Server runs the suite with a server as the subject, over every transport.
func Server(t *testing.T) { runAll(t, ServerOver) }

// Client runs the suite with a client as the subject, over every transport.
func Client(t *testing.T) { runAll(t, ClientOver) }

func runAll(t *testing.T, over func(t *testing.T, network Network)) {
	for _, network := range networks() {
		t.Run(network.Name, func(t *testing.T) { over(t, network) })
	}
}

// ServerOver runs the suite with a server as the subject, over a network that may be of somebody else.
func ServerOver(t *testing.T, network Network) { run(t, &network, serverSide) }

// ClientOver runs the suite with a client as the subject.
func ClientOver(t *testing.T, network Network) { run(t, &network, clientSide) }

var cases = []struct {
	name  string
	run   func(t *testing.T, s *subject, p *Peer)
	needs Ability
}{
	{"sizes", sizes, 0},
	{"packet too large", tooLarge, 0},
	{"announced packet too large", announcedTooLarge, Pieces},
	{"written packet too large", writtenTooLarge, 0},
	{"many packets in one write", manyInOneWrite, Pieces},
	{"packet in writes of one byte", byteByByte, Pieces},
	{"order of what is written", writeOrder, 0},
	{"types", types, 0},
	{"peer closes", peerCloses, Farewells},
	{"peer closes in a packet", peerClosesInside, Pieces | Ends},
	{"subject closes", subjectCloses, 0},
	{"subject closes with a reason", subjectClosesWithReason, 0},
	{"write after close", writeAfterClose, 0},
	{"callbacks", callbacks, Pieces | Ends},
	{"packet belongs to the handler", handlerOwnsPacket, 0},
	{"written packet may be reused", writerReusesPacket, 0},
}

// run runs each case on a connection of its own. After it the subject must have reported its end exactly once.
func run(t *testing.T, network *Network, newPair side) {
	dir := t.TempDir() // here, where its name is short enough for a socket
	for _, c := range cases {
		if !network.has(c.needs) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var s *subject
			t.Cleanup(func() { // runs last, after the end of it all
				if s != nil && !t.Failed() {
					assert.Empty(t, s.closed, "closed more than once")
				}
			})
			var p *Peer
			s, p = newPair(t, network, dir)
			c.run(t, s, p)
		})
	}
}

// payload returns size bytes that tell where one is missing.
func payload(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func numbered(i int) []byte { return []byte("packet " + strconv.Itoa(i)) }

func sizes(t *testing.T, s *subject, p *Peer) {
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, limit, s.accepts} {
		if size > s.accepts {
			continue
		}
		data := payload(size)
		go p.Write(Binary, data)
		got := s.next(t)
		require.Len(t, got.data, size)
		require.True(t, string(data) == string(got.data), "%d bytes arrived changed", size)
		require.NotNil(t, got.data)

		s.reply(got.data)
		p.Expect(Binary, data)
	}
	s.leaves(t, p)
}

func tooLarge(t *testing.T, s *subject, p *Peer) {
	if !s.network.has(Pieces) {
		tooLargeAlone(t, s, p)
		return
	}
	go func() { _, _ = p.Conn.Write(p.Packet(Binary, payload(s.accepts+1))) }() // which may be cut off
	if !s.drains {
		p.ExpectEnd()
		refused(t, s)
		return
	}
	p.ExpectFarewell(1009)
	p.Cut()
	refused(t, s)
}

// tooLargeAlone sends a packet that is too large where it is not known who has sent it: it is lost, and nothing else happens.
func tooLargeAlone(t *testing.T, s *subject, p *Peer) {
	p.Write(Binary, payload(s.accepts+1))
	p.Write(Binary, []byte("behind it"))
	assert.Equal(t, "behind it", string(s.next(t).data))
	s.leaves(t, p)
}

func announcedTooLarge(t *testing.T, s *subject, p *Peer) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.Send(p.wire.Announce(1 << 40))
	p.ExpectFarewell(1009)
	p.Cut()
	refused(t, s)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "bytes allocated for a packet that never came")
}

// refused checks the end of a subject that was sent too large a packet.
func refused(t *testing.T, s *subject) {
	t.Helper()
	err, ok := s.end(t).(error)
	require.True(t, ok, "the closed event gets an error")
	assert.ErrorIs(t, err, errTooLarge)
	assert.ErrorContains(t, err, strconv.Itoa(s.accepts), "the error names the limit")
	assert.Empty(t, s.packets)
}

func writtenTooLarge(t *testing.T, s *subject, p *Peer) {
	result := make(chan error, 2)
	s.write(Binary, make([]byte, s.sends+1), func(err error) { result <- err })
	err := await(t, result, "callback")
	assert.ErrorIs(t, err, errTooLarge)
	assert.ErrorContains(t, err, strconv.Itoa(s.sends))

	data := payload(s.sends)
	s.write(Binary, data, func(err error) { result <- err })
	p.Expect(Binary, data)
	assert.NoError(t, await(t, result, "callback"), "the connection goes on")
	s.leaves(t, p)
}

func manyInOneWrite(t *testing.T, s *subject, p *Peer) {
	const n = 1000
	var all []byte
	for i := range n {
		all = append(all, p.Packet(Text, numbered(i))...)
	}
	go p.Send(all)
	for i := range n {
		require.Equal(t, string(numbered(i)), string(s.next(t).data))
	}
	s.leaves(t, p)
	assert.Empty(t, s.packets)
}

func byteByByte(t *testing.T, s *subject, p *Peer) {
	data := payload(300)
	for _, b := range append(p.Packet(Binary, data), p.Packet(Binary, nil)...) {
		p.Send([]byte{b})
	}
	assert.Equal(t, data, s.next(t).data)
	assert.Empty(t, s.next(t).data)
	s.leaves(t, p)
}

func writeOrder(t *testing.T, s *subject, p *Peer) {
	n := s.network.burst(1000)
	results := make(chan int, n)
	for i := range n {
		s.write(Text, numbered(i), func(err error) {
			if assert.NoError(t, err) {
				results <- i
			}
		})
	}
	for i := range n {
		p.Expect(Text, numbered(i))
	}
	for i := range n {
		assert.Equal(t, i, await(t, results, "callback"), "callbacks come in order too")
	}
	s.leaves(t, p)
}

func types(t *testing.T, s *subject, p *Peer) {
	for _, kind := range []int{Text, Binary, Binary, Text} {
		p.Write(kind, []byte("what is it"))
		got := s.next(t)
		if p.typed() {
			assert.Equal(t, kind, got.kind)
		} else {
			assert.Equal(t, None, got.kind)
		}
		s.reply(got.data)
		p.Expect(kind, got.data)
	}
	s.leaves(t, p)
}

func peerCloses(t *testing.T, s *subject, p *Peer) {
	p.Write(Binary, []byte("last words"))
	p.Farewell()
	assert.Equal(t, "last words", string(s.next(t).data))
	p.ExpectFarewell(1000)
	p.ExpectEnd()
	assert.Nil(t, s.end(t), "an orderly end")
}

func peerClosesInside(t *testing.T, s *subject, p *Peer) {
	whole := p.Packet(Binary, payload(100))
	p.Send(whole[:50])
	p.Cut()
	err, ok := s.end(t).(error)
	require.True(t, ok, "the closed event gets an error")
	assert.ErrorContains(t, err, "unexpected EOF")
	assert.Empty(t, s.packets)
}

func subjectCloses(t *testing.T, s *subject, p *Peer) {
	result := make(chan error, 1)
	s.write(Binary, []byte("last words"), func(err error) { result <- err })
	closed := make(chan struct{})
	go func() { defer close(closed); s.close() }()
	if s.network.has(Farewells) {
		before := p.ExpectFarewell(1000)
		if assert.Len(t, before, 1, "what was written before is flushed") {
			assert.Equal(t, "last words", string(before[0]))
		}
		p.Farewell()
		p.ExpectEnd()
	} else {
		p.Expect(Binary, []byte("last words"))
	}
	assert.NoError(t, await(t, result, "callback"))
	assert.Nil(t, s.end(t), "an orderly end")
	await(t, closed, "return of Close")
}

func subjectClosesWithReason(t *testing.T, s *subject, p *Peer) {
	go s.close(errReason, errOther)
	if s.network.has(Farewells) {
		p.ExpectFarewell(1000)
		p.Farewell()
	}
	assert.Equal(t, errReason, s.end(t))
}

func writeAfterClose(t *testing.T, s *subject, p *Peer) {
	results := make(chan error, 4)
	if s.network.has(Farewells) {
		go s.close()
		p.ExpectFarewell(1000)
		s.write(Binary, []byte("while closing"), func(err error) { results <- err })
		assert.ErrorIs(t, await(t, results, "callback"), net.ErrClosed)
	}
	s.leaves(t, p)
	s.write(Binary, []byte("after all"), func(err error) { results <- err })
	assert.ErrorIs(t, await(t, results, "callback"), net.ErrClosed)
	assert.Empty(t, results)
}
