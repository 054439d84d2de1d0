package client_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

const userTimeout = 0x12 // TCP_USER_TIMEOUT, tcp(7), ms

func TestHalfOpenPeersAreNoticed(t *testing.T) {
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, tt.network)
			show, conns := dialed()
			c := tt.client(b.addr, show)
			require.NoError(t, c.Run())
			defer c.Close()
			conn, ok := await(t, conns, "socket").(*net.TCPConn)
			if tt.network == server.NetworkUnix {
				assert.False(t, ok, "the kernel knows when the other process is gone")
				return
			}
			fd := descriptorOf(t, conn.LocalAddr().(*net.TCPAddr))
			assert.Equal(t, 1, socketOption(t, fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
			assert.Equal(t, 5, socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE))
			assert.Equal(t, 5, socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL))
			assert.Equal(t, 2, socketOption(t, fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT))
			assert.Equal(t, 10_000, socketOption(t, fd, syscall.IPPROTO_TCP, userTimeout))
		})
	}
}

// descriptorOf returns the descriptor of the socket at local, whoever has it: a loop has a copy.
func descriptorOf(t *testing.T, local *net.TCPAddr) int {
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, name := range names {
		fd, err := strconv.Atoi(name.Name())
		require.NoError(t, err)
		at, err := syscall.Getsockname(fd)
		if v4, ok := at.(*syscall.SockaddrInet4); err == nil && ok && v4.Port == local.Port && net.IP(v4.Addr[:]).Equal(local.IP) {
			return fd
		}
	}
	require.FailNow(t, "no such socket")
	return -1
}

func socketOption(t *testing.T, fd, level, option int) int {
	value, err := syscall.GetsockoptInt(fd, level, option)
	require.NoError(t, err)
	return value
}
