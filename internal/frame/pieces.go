package frame

import "time"

// Pieces keeps what was read of a packet that is not all there, for whoever is told of bytes as they come.
type Pieces struct {
	rest  []byte
	begun time.Time // when the packet's first byte came; zero: none has
}

// Join returns what was kept, and p behind it. It is valid until Keep.
func (s *Pieces) Join(p []byte) []byte {
	if len(s.rest) == 0 {
		return p
	}
	s.rest = append(s.rest, p...)
	return s.rest
}

// Keep keeps rest, which Join returned the end of. whole: packets were cut before it.
func (s *Pieces) Keep(rest []byte, whole bool) {
	if len(rest) == 0 {
		*s = Pieces{}
		return
	}
	if whole || s.begun.IsZero() {
		s.begun = time.Now()
	}
	if whole || len(s.rest) == 0 { // else it is there already
		s.rest = append([]byte(nil), rest...)
	}
}

// Len returns how many bytes are kept.
func (s *Pieces) Len() int { return len(s.rest) }

// Overdue reports whether the packet was begun longer than limit before now.
func (s *Pieces) Overdue(now time.Time, limit time.Duration) bool {
	return !s.begun.IsZero() && now.Sub(s.begun) > limit
}
