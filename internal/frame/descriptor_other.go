//go:build unix && !linux

package frame

import "syscall"

// Receive is the same as on Linux.
func Receive(fd int, p []byte) (n int, errno syscall.Errno) { return call(syscall.Read, fd, p) }

// Send is the same as on Linux.
func Send(fd int, p []byte) (n int, errno syscall.Errno) { return call(syscall.Write, fd, p) }

func call(f func(int, []byte) (int, error), fd int, p []byte) (int, syscall.Errno) {
	for {
		n, err := f(fd, p)
		if err == nil {
			return n, 0
		}
		if errno := err.(syscall.Errno); errno != syscall.EINTR {
			return 0, errno
		}
	}
}
