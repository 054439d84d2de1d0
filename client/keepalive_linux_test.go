package client_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// TCP options, tcp(7).
const (
	keepIdle     = 4    // TCP_KEEPIDLE, s
	keepInterval = 5    // TCP_KEEPINTVL, s
	keepCount    = 6    // TCP_KEEPCNT
	userTimeout  = 0x12 // TCP_USER_TIMEOUT, ms
)

func TestHalfOpenPeersAreNoticed(t *testing.T) {
	for _, tt := range transports[:3] { // a loop has a copy of the socket
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
			assert.Equal(t, 1, socketOption(t, conn, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
			assert.Equal(t, 5, socketOption(t, conn, syscall.IPPROTO_TCP, keepIdle))
			assert.Equal(t, 5, socketOption(t, conn, syscall.IPPROTO_TCP, keepInterval))
			assert.Equal(t, 2, socketOption(t, conn, syscall.IPPROTO_TCP, keepCount))
			assert.Equal(t, 10_000, socketOption(t, conn, syscall.IPPROTO_TCP, userTimeout))
		})
	}
}

func socketOption(t *testing.T, conn *net.TCPConn, level, option int) (value int) {
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) { value, failed = syscall.GetsockoptInt(int(fd), level, option) }))
	require.NoError(t, failed)
	return value
}
