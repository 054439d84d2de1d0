//go:build !386

package sock

import "syscall"

// Numbers of system calls.
const (
	sysReceive = syscall.SYS_RECVFROM
	sysSend    = syscall.SYS_SENDTO
)
