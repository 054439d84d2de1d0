package frame

// Numbers of system calls, which package syscall lacks here.
const (
	sysReceive = 371 // recvfrom
	sysSend    = 369 // sendto
)
