//go:build linux && !noloops

package server_test

import (
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
)

// Without descriptors for more, established clients go on, and when there are some again, so do new ones.
func TestEngineOutOfDescriptors(t *testing.T) {
	if os.Getenv("OUT_OF_DESCRIPTORS") == "" {
		child(t, "TestEngineOutOfDescriptors", "OUT_OF_DESCRIPTORS=1")
		return
	}
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	for _, network := range networks {
		for spare := range 4 { // what fails is accepting, or the copy for the loop
			l, logger := newLogs()
			h := newHost(network, onLoops, logger).echo()
			h.start0(t)
			p, _ := h.dial(t)
			// Sockets that are there already, to be connected when there are no descriptors left.
			family, sockets := syscall.AF_INET, make([]int, 8)
			if network == unix {
				family = syscall.AF_UNIX
			}
			for i := range sockets {
				fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
				require.NoError(t, err)
				sockets[i] = fd
			}
			low := limit
			low.Cur = uint64(openDescriptors(t) - 1 + spare) // all numbers below are in use, but for a few that were freed
			require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
			for _, fd := range sockets {
				require.NoError(t, syscall.Connect(fd, socketAddress(h)))
			}
			l.expect(t, slog.LevelWarn, "")
			p.Write(text, []byte("still there?"))
			p.Expect(text, []byte("still there?"))
			for _, fd := range sockets {
				syscall.Close(fd)
			}
			require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
			next := conformance.Dial(t, network, h.addr, "/")
			next.Write(text, []byte("me too"))
			next.Expect(text, []byte("me too"))
			h.Shutdown()
			assert.NoError(t, endOfRun(t, h, p, next))
		}
	}
}

// socketAddress is where h listens.
func socketAddress(h *host) syscall.Sockaddr {
	if h.network == unix {
		return &syscall.SockaddrUnix{Name: h.addr}
	}
	addr := h.Addr().(*net.TCPAddr)
	return &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
}

// Nothing is left of connections that came to nothing.
func TestEngineFailedHandshakes(t *testing.T) {
	h := newHost(ws, onLoops)
	h.network = ws
	h.start0(t)
	p, _ := h.dial(t)
	before := openDescriptors(t)
	for name, say := range map[string]string{
		"not HTTP":          "hello\r\n\r\n",
		"not an upgrade":    "GET / HTTP/1.1\r\nHost: game.test\r\nConnection: close\r\n\r\n",
		"no key":            "GET / HTTP/1.1\r\nHost: game.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"frames too early":  "GET / HTTP/1.1\r\nHost: game.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x80abcd",
		"half of a request": "GET / HTTP/1.1\r\nHost: ",
	} {
		for range 20 {
			conn := conformance.DialRaw(t, ws, h.addr)
			_, err := conn.Write([]byte(say))
			require.NoError(t, err, name)
			_ = conn.(*net.TCPConn).CloseWrite() // the server may have had enough
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}
	require.Eventually(t, func() bool { return openDescriptors(t) <= before }, patience, tick)
	assert.EqualValues(t, 1, h.Stats().Opened)
	h.Shutdown()
	assert.NoError(t, endOfRun(t, h, p))
}

// What is done with a connection when Run has returned reaches nobody who has the numbers of its descriptors now, or its loop's.
func TestEngineConnAfterRunTouchesNobody(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := newHost(network, onLoops)
			h.start0(t)
			p, conn := h.dial(t)
			h.Shutdown()
			require.NoError(t, endOfRun(t, h, p))
			others := make([]int, 0, 128)
			for range cap(others) / 2 { // the lowest numbers that are free
				ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
				require.NoError(t, err)
				others = append(others, ends[:]...)
			}
			assert.ErrorIs(t, <-write(conn, []byte("not for you")), net.ErrClosed)
			conn.CloseWith(1000, "bye", nil)
			conn.Abort(errEnough)
			conn.Close()
			for _, fd := range others {
				_, err := syscall.Read(fd, make([]byte, 64))
				assert.Equal(t, syscall.EAGAIN, err, "somebody else's socket was written to, or closed")
			}
			for _, fd := range others {
				assert.NoError(t, syscall.Close(fd))
			}
		})
	}
}
