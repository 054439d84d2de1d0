package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// netcat is a process of nc that is connected.
type netcat struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func startNetcat(t *testing.T, host, port string) *netcat {
	nc := tool(t, "apt-get install netcat-openbsd", "nc.openbsd", "nc")
	n := &netcat{t: t, cmd: exec.CommandContext(t.Context(), nc, "-N", host, port)}
	var err error
	n.in, err = n.cmd.StdinPipe()
	require.NoError(t, err)
	n.out, err = n.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.cmd.Start())
	return n
}

// ask writes words and reads as much as was written, which has to be want.
func (n *netcat) ask(words, want string) {
	n.t.Helper()
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(n.in, words)
		written <- err
	}()
	got := make([]byte, len(want))
	_, err := io.ReadFull(n.out, got)
	require.NoError(n.t, err)
	require.NoError(n.t, <-written)
	require.True(n.t, want == string(got), "got %.80q, want %.80q", got, want)
}

// nc over TCP knows nothing of packets: with RawFramer they are chunks as they come, with LineFramer lines.
func TestRealClientNetcat(t *testing.T) {
	notShort(t)
	for engine, on := range engines() {
		for framer, with := range map[string]server.Option{
			"raw": server.WithFramer(server.RawFramer()), "line": server.WithFramer(server.LineFramer()),
		} {
			for _, back := range []server.Network{server.NetworkWebsocket, server.NetworkTcp} {
				t.Run(framer+" on "+engine+" to "+string(back), func(t *testing.T) {
					playNetcat(t, newArena(t, server.NetworkTcp, back, on, with), framer == "line")
				})
			}
		}
	}
}

func playNetcat(t *testing.T, a *arena, lines bool) {
	tcp := a.Server().Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	nc := startNetcat(t, tcp.Addr().String(), fmt.Sprint(tcp.Port()))
	small := func(loud bool) {
		var words bytes.Buffer
		for i := range 200 {
			fmt.Fprintf(&words, "apple %d\n", i)
		}
		nc.ask(words.String(), answer(words.String(), loud))
	}
	large := strings.Repeat("a", server.DefaultMaxPacketSize-1) + "\n"
	for _, side := range []struct {
		loud bool
		move func() error
	}{
		{true, func() error { return a.MoveConn(onlyConn(t, a.fixture), a.v1) }},
		{false, func() error { a.SwitchEndpoint(a.v1, a.plain); return nil }},
		{true, func() error { return nil }},
	} {
		small(side.loud)
		nc.ask(large, answer(large, side.loud))
		require.NoError(t, side.move())
	}
	require.NoError(t, nc.in.Close())
	rest, err := io.ReadAll(nc.out)
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.NoError(t, nc.cmd.Wait(), "nc ends when the gateway has closed too")
	a.checkEnded(t, 0)
	if lines {
		a.checkWhole(t, 2*201, 201)
	}
}

// answer is what the plain endpoint, which is loud, and the backend answer.
func answer(words string, loud bool) string {
	if loud {
		return strings.ToUpper(words)
	}
	return words
}
