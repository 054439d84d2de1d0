package conformance

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long anything that has to happen may take before a test gives up. Nothing waits for all of it unless it fails.
const patience = 20 * time.Second

// The networks that the suite runs over, by the names that package server has for them.
const (
	WebSocket = "websocket"
	TCP       = "tcp"
	Unix      = "unix"
)

// Peer is the other end of a connection: it writes hand-made bytes and reads what comes back. It belongs to one goroutine.
type Peer struct {
	Conn net.Conn
	wire Wire
	r    *bufio.Reader
	t    testing.TB
}

// Dial connects to a server by hand, and for WebSocket asks for path with the header fields given.
func Dial(t testing.TB, network, addr, path string, header ...string) *Peer {
	t.Helper()
	conn := DialRaw(t, network, addr)
	p := newPeer(t, conn, clientWire(network))
	if network != WebSocket {
		return p
	}
	resp := p.Upgrade(path, header...)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Equal(t, acceptKey(requestKey), resp.Header.Get("Sec-WebSocket-Accept"))
	return p
}

// DialTLS is Dial over TLS.
func DialTLS(t testing.TB, network, addr, path string, config *tls.Config) *Peer {
	t.Helper()
	conn := tls.Client(DialRaw(t, network, addr), config)
	p := newPeer(t, conn, clientWire(network))
	if network != WebSocket {
		return p
	}
	require.Equal(t, http.StatusSwitchingProtocols, p.Upgrade(path).StatusCode)
	return p
}

// DialRaw connects the socket and says nothing.
func DialRaw(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	kind := "tcp"
	if network == Unix {
		kind = "unix"
	}
	conn, err := net.DialTimeout(kind, addr, patience)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// NewPeer returns the client's end of a connection on which nothing was said yet. Without a deadline: the caller has one.
func NewPeer(t testing.TB, conn net.Conn, network string) *Peer {
	p := newPeer(t, conn, clientWire(network))
	require.NoError(t, conn.SetDeadline(time.Time{}))
	return p
}

func clientWire(network string) Wire {
	if network == WebSocket {
		return wsWire{client: true}
	}
	return streamWire{}
}

func newPeer(t testing.TB, conn net.Conn, w Wire) *Peer {
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &Peer{Conn: conn, wire: w, r: bufio.NewReader(conn), t: t}
}

// typed reports whether packets have types.
func (p *Peer) typed() bool { _, ws := p.wire.(wsWire); return ws }

// The sample of RFC 6455, section 1.3.
const requestKey = "dGhlIHNhbXBsZSBub25jZQ=="

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Upgrade asks for a WebSocket, and returns the answer. Its body is left unread unless it is a refusal.
func (p *Peer) Upgrade(path string, header ...string) *http.Response {
	p.t.Helper()
	head := "GET " + path + " HTTP/1.1\r\nHost: game.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + requestKey + "\r\n"
	for _, field := range header {
		head += field + "\r\n"
	}
	p.Send([]byte(head + "\r\n"))
	resp, err := http.ReadResponse(p.r, &http.Request{Method: http.MethodGet})
	require.NoError(p.t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	resp.Body.Close()
	return resp
}

// answer reads a client's request for a WebSocket and accepts it.
func (p *Peer) answer() {
	req, err := http.ReadRequest(p.r)
	require.NoError(p.t, err)
	require.True(p.t, strings.EqualFold(req.Header.Get("Upgrade"), "websocket"))
	p.Send([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n"))
}

// Send writes raw bytes.
func (p *Peer) Send(b []byte) {
	p.t.Helper()
	_, err := p.Conn.Write(b)
	require.NoError(p.t, err)
}

// Packet returns the bytes of a packet.
func (p *Peer) Packet(kind int, data []byte) []byte { return p.wire.Packet(kind, data) }

// Frame returns the bytes of a WebSocket frame whose first byte is first.
func (p *Peer) Frame(first byte, data []byte) []byte { return p.wire.(wsWire).frame(first, data) }

// Write writes one packet.
func (p *Peer) Write(kind int, data []byte) {
	p.t.Helper()
	p.Send(p.Packet(kind, data))
}

// Read returns the next packet. io.EOF is the end of the stream, *Farewell a close frame.
func (p *Peer) Read() (kind int, data []byte, err error) { return p.wire.Read(p.r) }

// ReadRaw returns the next WebSocket frame as it is: its first byte and its payload.
func (p *Peer) ReadRaw() (first byte, data []byte) {
	p.t.Helper()
	first, data, err := p.wire.(wsWire).readFrame(p.r)
	require.NoError(p.t, err)
	return first, data
}

// Expect reads a packet and fails the test if it is another.
func (p *Peer) Expect(kind int, data []byte) {
	p.t.Helper()
	gotKind, got, err := p.Read()
	require.NoError(p.t, err)
	if p.typed() {
		require.Equal(p.t, kind, gotKind)
	}
	require.Equal(p.t, len(data), len(got), "bytes")
	require.True(p.t, string(data) == string(got), "the packet arrived changed")
}

// ExpectFarewell reads what the other end says before it closes: a close frame of code, answered here, on a WebSocket,
// io.EOF of Wire.Read elsewhere. Packets before it are the return value.
func (p *Peer) ExpectFarewell(code int) (before [][]byte) {
	p.t.Helper()
	for {
		_, data, err := p.Read()
		if err == nil {
			before = append(before, data)
			continue
		}
		var bye *Farewell
		if !p.typed() {
			require.ErrorIs(p.t, err, io.EOF, "the end of the stream")
			return before
		}
		require.ErrorAs(p.t, err, &bye)
		require.Equal(p.t, code, bye.Code, bye.Reason)
		return before
	}
}

// ExpectEnd reads until the other end has closed the socket, in whatever way.
func (p *Peer) ExpectEnd() {
	p.t.Helper()
	_, err := io.Copy(io.Discard, p.r)
	var timeout net.Error
	require.False(p.t, errors.As(err, &timeout) && timeout.Timeout(), "still open: %v", err)
}

// Farewell ends the connection in an orderly way: by a close frame or its like, or by the end of the stream.
func (p *Peer) Farewell() {
	p.t.Helper()
	if bye := p.wire.Goodbye(); bye != nil {
		p.Send(bye)
		return
	}
	require.NoError(p.t, p.Conn.(interface{ CloseWrite() error }).CloseWrite())
}

// Cut closes the socket without a word.
func (p *Peer) Cut() { p.Conn.Close() }
