package backendnode_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	nobody = "000000000000"
	key    = "cb0071071267"
	down   = key + "00000000"
)

var hello = nobody + "010101" + strings.Repeat("07", 48) + "0372617700"

// raw is a gateway's link, made by hand.
type raw struct{ net.Conn }

func dialRaw(t *testing.T, address string) raw {
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return raw{conn}
}

// linkRaw returns a link that is up.
func linkRaw(t *testing.T, address string) raw {
	r := dialRaw(t, address)
	r.link(t)
	return r
}

// link does the handshake.
func (r raw) link(t *testing.T) {
	r.send(t, hello)
	assert.Regexp(t, "^"+nobody+"00000000"+"0201[0-9a-f]{96}"+"046e6f6465"+"0000$", r.next(t), "WELCOME")
	r.control(t, "0400", "READY")
}

// send sends a packet, as bytes in hexadecimal behind the identifier.
func (r raw) send(t *testing.T, bytes string) {
	packet, err := hex.DecodeString("deadbeef" + strings.ReplaceAll(bytes, " ", ""))
	require.NoError(t, err)
	_, err = r.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...))
	require.NoError(t, err)
}

// next returns the next packet behind its length, in hexadecimal.
func (r raw) next(t *testing.T) string {
	length := make([]byte, 4)
	_, err := io.ReadFull(r, length)
	require.NoError(t, err)
	packet := make([]byte, binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(r, packet)
	require.NoError(t, err)
	return hex.EncodeToString(packet)
}

// ended waits until the backend has closed the link.
func (r raw) ended(t *testing.T, what string) {
	_, err := io.ReadAll(r)
	assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), what)
}

// control expects a control packet.
func (r raw) control(t *testing.T, body, what string) {
	assert.Equal(t, nobody+"00000000"+strings.ReplaceAll(body, " ", ""), r.next(t), what)
}

// ask says a word for the player, and expects an answer.
func (r raw) ask(t *testing.T, word, answer string) {
	r.send(t, key+hex.EncodeToString([]byte(word)))
	assert.Equal(t, down+hex.EncodeToString([]byte(answer)), r.next(t))
}

// opens sends OPEN with an attach number, flags, counts and a state.
func (r raw) opens(t *testing.T, attach, flags, written, received int, state string) {
	r.send(t, fmt.Sprintf("%s05%s%08x%02x%016x%016x00%02x%x%02x%x0000%08x%x", nobody, key, attach, flags, written, received,
		3, "tcp", 16, "203.0.113.7:4711", len(state), state))
}

// Whatever is wrong with a packet, or with the handshake, costs the link, and the link only.
func TestRefuses(t *testing.T) {
	n := startNode(t)
	good := linkRaw(t, n.address)
	for _, test := range []struct {
		name   string
		linked bool
		why    string
		send   func(r raw)
	}{
		{"silence", false, "takes too long", func(raw) {}},
		{"a player's packet first", false, "not the packet of type 1", func(r raw) { r.send(t, key+"68656c6c6f") }},
		{"a PING first", false, "not the packet of type 1", func(r raw) { r.send(t, nobody+"10 0000000000000001") }},
		{"half a HELLO", false, "too short", func(r raw) { r.send(t, hello[:60]) }},
		{"no version", false, "malformed packet: versions", func(r raw) { r.send(t, nobody+"010001"+hello[18:]) }},
		{"a later version", false, "no common version", func(r raw) { r.send(t, nobody+"010209"+hello[18:]) }},
		{"not a gateway", false, "packet of 1195725856 bytes", func(r raw) { _, _ = r.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }},
		{"too large", true, "packet of 65601 bytes", func(r raw) { _, _ = r.Write([]byte{0, 1, 0, 65}) }},
		{"no header", true, "no header", func(r raw) { _, _ = r.Write([]byte{0, 0, 0, 1, 0xDE}) }},
		{"another identifier", true, "no header", func(r raw) { _, _ = r.Write([]byte("\x00\x00\x00\x0aabcdefghij")) }},
		{"no type", true, "too short", func(r raw) { r.send(t, nobody) }},
		{"half a PING", true, "too short", func(r raw) { r.send(t, nobody+"10 00000000") }},
		{"half an OPEN", true, "too short", func(r raw) { r.send(t, nobody+"05"+key+"00000001 00") }},
		{"a state longer than its OPEN", true, "too short", func(r raw) {
			r.send(t, nobody+"05"+key+"00000001 00 0000000000000000 0000000000000000 00 00 00 0000 00000001")
		}},
		{"a state that is too large", true, "state too large", func(r raw) { r.opens(t, 1, 0, 0, 0, strings.Repeat("x", 32<<10+1)) }},
		{"an OPEN of nobody", true, "about nobody", func(r raw) {
			r.send(t, nobody+"05"+nobody+"00000001 00 0000000000000000 0000000000000000 00 00 00 0000 00000000")
		}},
		{"a FLOW about nobody", true, "about nobody", func(r raw) { r.send(t, nobody+"12"+nobody+"01") }},
		{"another HELLO", true, "handshake: it is over", func(r raw) { r.send(t, hello) }},
		{"an AUTH that is not due", true, "handshake: it is over", func(r raw) { r.send(t, nobody+"03 00") }},
		{"half a FLOW", true, "too short", func(r raw) { r.send(t, nobody+"12"+key+"01 cb00") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := dialRaw(t, n.address)
			if test.linked {
				r.link(t)
			}
			known := len(n.log.String())
			test.send(r)
			r.ended(t, "it is not closed")
			require.Eventually(t, func() bool { return strings.Contains(n.log.String()[known:], test.why) }, patience, time.Millisecond)
		})
	}
	good.send(t, nobody+"77 ff")                    // a type that nobody knows
	good.send(t, nobody+"10 0000000000000001 0203") // with something that a later version may put there
	good.control(t, "11 0000000000000001", "PONG")
}

// The table of section 4, and the counts of section 5, from a gateway made by hand.
func TestSessionStates(t *testing.T) {
	n := startNode(t)
	a, b := linkRaw(t, n.address), linkRaw(t, n.address)
	a.opens(t, 1, 0, 0, 0, "41")
	a.ask(t, "count", "42")
	a.opens(t, 1, 0, 0, 0, "") // a late one
	b.send(t, key+"78")        // not its lane
	b.send(t, nobody+"07"+key+"01")
	b.send(t, nobody+"12"+key+"01")
	b.send(t, nobody+"10 0000000000000001")
	b.control(t, "11 0000000000000001", "PONG")
	a.ask(t, "count", "43")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":0,"congested":false,"attributes":{}}`)
	a.send(t, nobody+"12"+key+"01")
	a.send(t, nobody+"07"+key+"02")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":2,"congested":true,"attributes":{}}`)
	a.send(t, nobody+"12"+key+"00")
	a.ask(t, "who", `{"address":"203.0.113.7:4711","transport":"tcp","type":2,"congested":false,"attributes":{}}`)

	b.opens(t, 2, 1, 7, 4, "")
	b.control(t, "06"+key+"00000002 00 0000000000000005 0000000000000005", "ATTACHED")
	a.ended(t, "the old lane is closed")
	b.send(t, nobody+"08"+key+"00000001 01") // a late one
	b.send(t, nobody+"08"+key+"00000001 02") // another, for whose answer a gateway may be waiting
	b.control(t, "09"+key+"00000001 00000000", "CLOSED, of a number that is past")
	b.ask(t, "count", "47")
	b.opens(t, 3, 0, 0, 0, "") // CLOSE got lost
	b.ask(t, "count", "1")
	b.ask(t, "opens", "2")

	b.send(t, key+hex.EncodeToString([]byte("release")))
	b.control(t, "0b"+key, "RELEASE")
	b.send(t, key+"78") // was on its way
	b.opens(t, 4, 1, 4, 2, "")
	b.control(t, "0b"+key, "RELEASE, once more")
	b.send(t, key+"78")
	b.opens(t, 5, 0, 0, 0, "")
	b.ask(t, "opens", "3")
	b.send(t, key+hex.EncodeToString([]byte("close 4000 bye")))
	b.control(t, "0a"+key+"0fa0 03627965", "KICK")
	c := linkRaw(t, n.address)
	c.opens(t, 6, 1, 2, 1, "")
	c.control(t, "0a"+key+"0fa0 03627965", "KICK, once more")
	b.ended(t, "the old lane is closed")
	c.send(t, nobody+"08"+key+"00000006 02")
	c.control(t, "09"+key+"00000006 00000000", "CLOSED, of one that is gone")
	c.send(t, nobody+"08"+key+"00000006 02")
	c.control(t, "09"+key+"00000006 00000000", "CLOSED, of one that is not there")
	c.opens(t, 7, 0, 0, 0, "7")
	c.send(t, nobody+"08"+key+"00000007 02")
	c.control(t, "09"+key+"00000007 00000001 37", "CLOSED, with its state")

	c.opens(t, 8, 0, 0, 0, "")
	c.ask(t, "count", "1")
	c.send(t, nobody+"14 04") // GOAWAY: nothing waits for the gateway
	c.Close()
	require.Eventually(t, func() bool { return strings.Count(n.log.String(), "unlink") == 3 }, patience, time.Millisecond)
	d := linkRaw(t, n.address)
	d.opens(t, 9, 1, 1, 1, "")
	d.control(t, "06"+key+"00000009 01 0000000000000000 0000000000000000", "ATTACHED, opened anew")
}

// A session that has expired is opened anew, and its counts go on: what was lost meanwhile is counted, and what came is not. One
// that is opened afresh begins to count anew.
func TestExpiredSession(t *testing.T) {
	n := startNode(t, "--grace", "300")
	expire := func(times int) {
		require.Eventually(t, func() bool { return strings.Count(n.log.String(), "expired 203.0.113.7:4711") == times }, patience,
			time.Millisecond)
	}
	a := linkRaw(t, n.address)
	a.opens(t, 1, 0, 0, 0, "")
	a.ask(t, "count", "1")
	a.ask(t, "hello", "hello")
	a.Close()
	expire(1)
	b := linkRaw(t, n.address)
	b.opens(t, 2, 1, 3, 1, "")
	b.control(t, "06"+key+"00000002 01 0000000000000002 0000000000000002", "ATTACHED, opened anew, with its counts")
	b.ask(t, "count", "1")
	b.Close()
	expire(2)
	c := linkRaw(t, n.address)
	c.opens(t, 3, 0, 0, 0, "")
	c.ask(t, "opens", "3")
	d := linkRaw(t, n.address)
	d.opens(t, 4, 1, 1, 1, "")
	d.control(t, "06"+key+"00000004 00 0000000000000001 0000000000000001", "ATTACHED, of one that was opened afresh")
	d.send(t, nobody+"08"+key+"00000004 01")
	d.opens(t, 5, 1, 1, 1, "")
	d.control(t, "06"+key+"00000005 01 0000000000000000 0000000000000000", "ATTACHED, of one that was closed")
	d.ask(t, "count", "1")
	d.Close()
	expire(3)
	e := linkRaw(t, n.address)
	e.send(t, nobody+"08"+key+"00000005 01")
	e.opens(t, 6, 1, 1, 1, "")
	e.control(t, "06"+key+"00000006 01 0000000000000000 0000000000000000", "ATTACHED, of one that was closed when it had expired")
}
