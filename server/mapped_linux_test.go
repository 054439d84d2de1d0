package server_test

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// init: a socket of IPv6 that is bound to an IPv4 address, as net makes none.
func init() {
	listenMapped = func(t testing.TB) net.Listener {
		t.Helper()
		fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		file := os.NewFile(uintptr(fd), "mapped listener")
		defer file.Close()
		require.NoError(t, syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0))
		addr := syscall.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
		require.NoError(t, syscall.Bind(fd, &addr))
		require.NoError(t, syscall.Listen(fd, 16))
		ln, err := net.FileListener(file)
		require.NoError(t, err)
		return ln
	}
}
