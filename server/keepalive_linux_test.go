package server_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A TCP client whose host is gone is noticed by the kernel, whoever has its socket: one on a loop is a copy.
func TestHalfOpenClientsAreNoticed(t *testing.T) {
	for engine, on := range engines() {
		for _, network := range []string{tcp, ws} {
			t.Run(engine+" "+network, func(t *testing.T) {
				h := serve(t, network, on).echo()
				p, _ := h.dial(t)
				p.Write(text, []byte("there?")) // whoever answers has the socket
				p.Expect(text, []byte("there?"))
				fd := farEnd(t, p.Conn)
				assert.Equal(t, 1, socketOption(t, fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
				idle := socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
				interval := socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL)
				count := socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
				t.Logf("noticed after %d s: %d + %d * %d", idle+interval*count, idle, interval, count)
				assert.LessOrEqual(t, idle+interval*count, 150, "seconds") // Go's own: 15 s, and 9 times 15 s
			})
		}
	}
}

// farEnd returns this process's descriptor of the other end of conn.
func farEnd(t *testing.T, conn net.Conn) int {
	t.Helper()
	near := conn.LocalAddr().(*net.TCPAddr)
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		require.NoError(t, err)
		peer, err := syscall.Getpeername(fd)
		if at, ok := peer.(*syscall.SockaddrInet4); err == nil && ok && at.Port == near.Port && net.IP(at.Addr[:]).Equal(near.IP) {
			return fd
		}
	}
	require.FailNow(t, "no such socket")
	return -1
}

func socketOption(t *testing.T, fd, level, option int) int {
	t.Helper()
	value, err := syscall.GetsockoptInt(fd, level, option)
	require.NoError(t, err)
	return value
}
