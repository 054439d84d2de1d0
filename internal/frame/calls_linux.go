//go:build !386

package frame

import "syscall"

// Numbers of system calls.
const (
	sysReceive = syscall.SYS_RECVFROM
	sysSend    = syscall.SYS_SENDTO
)
