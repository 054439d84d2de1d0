package server_test

import (
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// stuckConn is a connection whose Shutdown doesn't return before Close.
type stuckConn struct{ *fakeConn }

func (c stuckConn) Shutdown(code int, _ string) error {
	c.codes <- code
	<-c.closed
	return net.ErrClosed
}

// An answer that nobody takes holds up nobody, and ends after a second. There are only so many at a time: others are closed without.
func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, accept := serveCustom(t, server.WithMaxConnections(1))
		accept(newFakeConn(nil))
		<-h.opened
		begun := time.Now()
		stuck := make([]stuckConn, server.MaxAnswers)
		for i := range stuck {
			stuck[i] = stuckConn{newFakeConn(nil)}
			accept(stuck[i])
		}
		for _, c := range stuck {
			assert.Equal(t, 1013, <-c.codes)
		}
		late := stuckConn{newFakeConn(nil)}
		accept(late)
		<-late.closed
		assert.Empty(t, late.codes)
		assert.Zero(t, time.Since(begun))
		for _, c := range stuck {
			<-c.closed
		}
		assert.Equal(t, server.LingerTimeout, time.Since(begun))
		synctest.Wait()
		again := newFakeConn(nil)
		accept(again)
		assert.Equal(t, 1013, <-again.codes)
		assert.EqualValues(t, server.MaxAnswers+2, h.Stats().Refusals[server.RefusedTotal])
	})
}

// The log says once a second how many were refused for each reason.
func TestRefusalsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logger := newLogs()
		h, accept := serveCustom(t, logger, server.WithMaxConnections(2), server.WithMaxConnectionsPerAddress(1))
		accept(newFakeConn(textAddr("1.1.1.1:1")))
		<-h.opened
		for range 5 {
			accept(newFakeConn(textAddr("1.1.1.1:2")))
		}
		accept(newFakeConn(textAddr("2.2.2.2:1")))
		<-h.opened
		accept(newFakeConn(textAddr("3.3.3.3:1")))
		time.Sleep(2 * time.Second)
		accept(newFakeConn(textAddr("4.4.4.4:1")))
		for _, want := range []string{
			"WARN connection refused reason=too many connections from the address conn=1.1.1.1:2 times=1",
			"WARN connection refused reason=too many connections conn=3.3.3.3:1 times=1",
			"WARN connection refused reason=too many connections conn=4.4.4.4:1 times=1",
		} {
			assert.Equal(t, want, l.expect(t, slog.LevelWarn, "connection refused"))
		}
		assert.Empty(t, l.lines)
		time.Sleep(2 * time.Second)
		for range 3 {
			accept(newFakeConn(textAddr("5.5.5.5:1")))
		}
		assert.Contains(t, l.expect(t, slog.LevelWarn, "connection refused"), "times=1")
		time.Sleep(2 * time.Second)
		accept(newFakeConn(textAddr("5.5.5.5:1")))
		assert.Contains(t, l.expect(t, slog.LevelWarn, "connection refused"), "times=3")
		assert.EqualValues(t, map[server.Refusal]uint64{server.RefusedAddress: 5, server.RefusedTotal: 6}, h.Stats().Refusals)
	})
}

// A flood of dials that are refused leaves nothing behind.
func TestRefusedDialsCostNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("127.0.0.0/8 is this machine on Linux only")
	}
	const dials, sources = 10_000, 8 // on each engine
	for name, engine := range engines() {
		for _, network := range []string{tcp, ws} {
			t.Run(network+" "+name, func(t *testing.T) {
				h := serve(t, network, engine, server.WithMaxConnections(1))
				knock(t, h, "", "")
				before := heap()
				for i := range dials {
					dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.3." + strconv.Itoa(i%sources+1))}, Timeout: patience}
					conn, err := dialer.Dial("tcp", h.addr)
					require.NoError(t, err)
					conn.Close()
				}
				require.Eventually(t, func() bool { return h.Stats().Refusals[server.RefusedTotal] == dials }, patience, tick)
				require.Eventually(t, func() bool { n, _, _ := server.Counted(h.Server); return n == 1 && heap() < before+(1<<20) }, patience, 100*tick)
			})
		}
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
