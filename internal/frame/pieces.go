package frame

import "time"

// Pieces keeps what was read of a packet that is not all there, for whoever is told of bytes as they come.
type Pieces struct{ kept *kept } // nil: nothing

type kept struct {
	bytes []byte
	begun time.Time // when the packet's first byte came
}

// Join returns what was kept, and p behind it. It is valid until Keep.
func (s *Pieces) Join(p []byte) []byte {
	if s.kept == nil {
		return p
	}
	s.kept.bytes = append(s.kept.bytes, p...)
	return s.kept.bytes
}

// Keep keeps rest, which is the end of what Join returned. whole: packets were cut before it.
func (s *Pieces) Keep(rest []byte, whole bool) {
	switch {
	case len(rest) == 0:
		s.kept = nil
	case whole || s.kept == nil: // else it is there already
		s.kept = &kept{bytes: append([]byte(nil), rest...), begun: time.Now()}
	}
}

// Len returns how many bytes are kept.
func (s *Pieces) Len() int {
	if s.kept == nil {
		return 0
	}
	return len(s.kept.bytes)
}

// Overdue reports whether the packet was begun longer than limit before now.
func (s *Pieces) Overdue(now time.Time, limit time.Duration) bool {
	return s.kept != nil && now.Sub(s.kept.begun) > limit
}
