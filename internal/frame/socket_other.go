//go:build !unix

package frame

const socketsSupported = false

func (s *Socket) readOnce(uintptr) bool  { return true }
func (s *Socket) writeOnce(uintptr) bool { return true }
