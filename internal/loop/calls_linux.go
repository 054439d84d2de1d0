//go:build !noloops && !386

package loop

import "syscall"

// Numbers of system calls.
const (
	sysReceive = syscall.SYS_RECVFROM
	sysSend    = syscall.SYS_SENDTO
)
