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
	room := s.room.Take()
	for {
		n, err := syscall.Read(int(fd), room)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.room.Idle()
			return false
		case err != nil:
			s.readErr = os.NewSyscallError("read", err)
		case n == 0:
			s.readErr = io.EOF
		default:
			s.readN = n
		}
		return true
	}
}

// writeOnce always reports true: what the kernel doesn't take now is the caller's to keep.
func (s *Socket) writeOnce(fd uintptr) bool {
	for s.writeN < len(s.out) {
		n, err := syscall.Write(int(fd), s.out[s.writeN:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			s.writeErr = os.NewSyscallError("write", err)
			return true
		}
		s.writeN += n
	}
	return true
}
