package gwtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/server"
)

// Raw is a client whose packets are bytes made beforehand: what it writes and reads allocates nothing, so that what is measured is
// the other side.
type Raw struct {
	net.Conn
	ws bool
}

const rawPatience = 10 * time.Minute // then reads and writes fail

// DialRaw connects to a server, until the test's end.
func DialRaw(t testing.TB, network server.Network, addr string) *Raw {
	t.Helper()
	via := "tcp"
	if network == server.NetworkUnix {
		via = "unix"
	}
	conn, err := net.Dial(via, addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(rawPatience)))
	r := &Raw{Conn: conn, ws: network == server.NetworkWebsocket}
	if r.ws {
		r.upgrade(t)
	}
	return r
}

func (r *Raw) upgrade(t testing.TB) {
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	_, err := io.WriteString(r, request)
	require.NoError(t, err)
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b[0]) {
		_, err := io.ReadFull(r, b)
		require.NoError(t, err)
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
}

// Sent returns the bytes of a packet that the client sends: a binary one, where there are types.
func (r *Raw) Sent(payload []byte) []byte {
	if r.ws {
		return wsframe.AppendMasked(nil, frame.KindBinary, payload, [4]byte{0xA5, 0x00, 0xFF, 0x3C})
	}
	return Framed(payload)
}

// Received returns the bytes of a packet that the client gets.
func (r *Raw) Received(payload []byte) []byte {
	if r.ws {
		return wsframe.Append(nil, frame.KindBinary, payload)
	}
	return Framed(payload)
}

// Framed returns a packet as the default framer marks it, which a length doesn't make fail.
func Framed(payload []byte) []byte {
	b, _ := frame.Default().Append(nil, payload)
	return b
}
