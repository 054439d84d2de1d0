package conformance

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
)

// RFC6455Client plays the table against clients that dial makes of an address and options, as far as a server can send the same: with
// masks taken off, and without the cases that are about masks. Text that isn't UTF-8 is left out too: clients let it through.
func RFC6455Client(t *testing.T, dial func(addr string, opts ...client.Option) *client.Client) {
	var cases []Case
	for _, c := range Cases() {
		if !strings.HasPrefix(c.Name, "mask: ") && !strings.Contains(c.Name, ": an unmasked ") && !strings.HasPrefix(c.Name, "not UTF-8: ") {
			c.Sent = unmask(c.Sent)
			cases = append(cases, c)
		}
	}
	s := newCallers(t, dial)
	playAll(t, append(cases, maskedCases()...), wsWire{}, s.accept)
}

// maskedCases are of servers that mask (section 5.1).
func maskedCases() []Case {
	var list []Case
	for _, op := range opcodes {
		list = append(list,
			fails("mask: a "+op.name+" frame with one", protocolError, join(unmask(begun(op.code)), sent(fin|op.code, string(closeFrame(1000, ""))))),
			fails("mask: an empty "+op.name+" frame with one", protocolError, join(unmask(begun(op.code)), sent(fin|op.code, ""))))
	}
	return append(list,
		says("mask: none", []byte("\x81\x05\x48\x65\x6c\x6c\x6f"), text("Hello")),
		says("mask: none on fragments", []byte("\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f"), text("Hello")),
		fails("mask: one on the second message", protocolError, join(unmasked(fin|Text, "before"), sent(fin|Text, "after")), text("before")),
		fails("mask: one of zeros", protocolError, keyed(fin|Text, [4]byte{}, "Hello")))
}

// unmask returns frames as a server sends them. What is no whole frame stays one that isn't.
func unmask(b []byte) []byte {
	var out []byte
	for len(b) >= 2 {
		head := 2
		size := uint64(b[1] & 0x7F)
		switch {
		case size == 126 && len(b) >= 4:
			head, size = 4, uint64(binary.BigEndian.Uint16(b[2:]))
		case size == 127 && len(b) >= 10:
			head, size = 10, binary.BigEndian.Uint64(b[2:])
		case size >= 126:
			return append(append(out, b[0], b[1]&0x7F), b[2:]...) // cut within its length
		}
		out = append(append(out, b[0], b[1]&0x7F), b[2:head]...)
		key := []byte{0, 0, 0, 0}
		if b[1]&0x80 != 0 {
			n := copy(key, b[head:])
			head += n
		}
		payload := b[head:]
		payload = payload[:min(uint64(len(payload)), size)]
		for i := range payload {
			out = append(out, payload[i]^key[i%4])
		}
		b = b[head+len(payload):]
	}
	return append(out, b...)
}

// callers are clients, each of which calls the test, and writes down what its handlers get.
type callers struct {
	ln   net.Listener
	dial func(addr string, opts ...client.Option) *client.Client
}

func newCallers(t *testing.T, dial func(addr string, opts ...client.Option) *client.Client) *callers {
	ln, err := net.Listen("tcp", address(WebSocket, ""))
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return &callers{ln: ln, dial: dial}
}

// accept returns a server's end of a connection, and where its client's handlers write.
func (s *callers) accept(t *testing.T) (*Peer, *record) {
	rec := &record{closed: make(chan any, 2)}
	c := s.dial("ws://"+s.ln.Addr().String()+"/", client.WithLogger(quiet), client.WithMaxPacketSize(CaseLimit-64))
	c.RegConnectionReceivePacketEvent(func(_ *client.Client, wst int, data []byte) {
		rec.messages = append(rec.messages, Message{wst, string(data)})
	})
	c.RegConnectionClosedEvent(func(_ *client.Client, err any) { rec.closed <- err })
	running := make(chan error, 1)
	go func() { running <- c.Run() }()
	conn, err := s.ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(); c.Close() })
	p := newPeer(t, conn, wsWire{})
	p.answer()
	assert.NoError(t, await(t, running, "outcome of Run"))
	return p, rec
}
