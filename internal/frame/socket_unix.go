//go:build unix

package frame

import (
	"io"
	"os"
	"syscall"
)

const socketsSupported = true

// readOnce reports false where it has to be called again once there is something to read.
func (s *Socket) readOnce(fd uintptr) bool {
	n, errno := Receive(int(fd), s.room.Take())
	switch {
	case errno == syscall.EAGAIN:
		s.room.Idle()
		return false
	case errno != 0:
		s.readErr = os.NewSyscallError("recv", errno)
	case n == 0:
		s.readErr = io.EOF
	default:
		s.readN = n
	}
	return true
}

// writeOnce always reports true: what the kernel doesn't take now is the caller's to keep.
func (s *Socket) writeOnce(fd uintptr) bool {
	for s.writeN < len(s.out) {
		n, errno := Send(int(fd), s.out[s.writeN:])
		if errno != 0 {
			if errno != syscall.EAGAIN {
				s.writeErr = os.NewSyscallError("send", errno)
			}
			return true
		}
		s.writeN += n
	}
	return true
}
