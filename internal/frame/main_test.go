package frame_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// length returns a framer with a length field.
func length(width int, order binary.ByteOrder) frame.Framer {
	f, err := frame.Length(width, order)
	if err != nil {
		panic(err)
	}
	return f
}

// framers are all there are that keep the boundaries of packets.
var framers = []struct {
	name string
	frame.Framer
}{
	{"length 1", length(1, binary.BigEndian)},
	{"length 2", length(2, binary.BigEndian)},
	{"length 2 little", length(2, binary.LittleEndian)},
	{"length 4", length(4, binary.BigEndian)},
	{"length 4 little", length(4, binary.LittleEndian)},
	{"uvarint", frame.Uvarint()},
	{"line", frame.Line()},
}

// framed returns packets as f marks them, behind each other.
func framed(t testing.TB, f frame.Framer, packets ...string) []byte {
	t.Helper()
	var b []byte
	for _, p := range packets {
		var err error
		b, err = f.Append(b, []byte(p))
		require.NoError(t, err)
	}
	return b
}

// noise returns n bytes that are alike each time, and not among each other.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// announce returns the head of a packet of n bytes.
func announce(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// scriptConn is a connection whose reads return chunks, one after another, and then end. It has no deadlines.
type scriptConn struct {
	net.Conn
	chunks [][]byte
	reads  int
	err    error // after the last chunk; nil: io.EOF
}

func (c *scriptConn) Read(p []byte) (int, error) {
	c.reads++
	if len(c.chunks) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		return 0, io.EOF
	}
	n := copy(p, c.chunks[0])
	if c.chunks[0] = c.chunks[0][n:]; len(c.chunks[0]) == 0 {
		c.chunks = c.chunks[1:]
	}
	return n, nil
}

func (c *scriptConn) SetReadDeadline(time.Time) error { return errNoDeadline }

var errNoDeadline = errors.New("no deadlines here")

var errBroken = errors.New("broken")

// takeConn is a connection that takes so many bytes, and then breaks.
type takeConn struct {
	net.Conn
	left     int
	taken    []byte
	writes   int
	deadline time.Time
}

func (c *takeConn) Write(p []byte) (int, error) {
	c.writes++
	n := min(len(p), c.left)
	c.taken = append(c.taken, p[:n]...)
	if c.left -= n; n < len(p) {
		return n, errBroken
	}
	return n, nil
}

func (c *takeConn) SetWriteDeadline(t time.Time) error { c.deadline = t; return nil }
