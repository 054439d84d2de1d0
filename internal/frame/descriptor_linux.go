package frame

import (
	"syscall"
	"unsafe"
)

// Sockets are read and written without waiting, without what read and write do for files, and without telling the scheduler of a call
// that doesn't wait.

// Receive reads from the socket fd to p, which isn't empty. 0 is the end of the stream, syscall.EAGAIN that nothing is there.
func Receive(fd int, p []byte) (n int, errno syscall.Errno) {
	return call(sysReceive, fd, p, syscall.MSG_DONTWAIT)
}

// Send hands the socket fd as much of p, which isn't empty, as the kernel takes, or returns syscall.EAGAIN. A peer that has gone is
// syscall.EPIPE, and no signal.
func Send(fd int, p []byte) (n int, errno syscall.Errno) {
	return call(sysSend, fd, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func call(number uintptr, fd int, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
