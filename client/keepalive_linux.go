package client

import (
	"strings"
	"syscall"
)

const (
	tcpUserTimeout    = 0x12 // TCP_USER_TIMEOUT, tcp(7)
	userTimeoutMillis = 10_000
)

// limitUnacknowledged lets the kernel give up a TCP connection whose bytes nobody acknowledged for 10 s.
func limitUnacknowledged(network, _ string, conn syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	if ctrl := conn.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, userTimeoutMillis)
	}); ctrl != nil {
		return ctrl
	}
	return err
}
