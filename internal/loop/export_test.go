//go:build linux && !noloops

package loop

// Signalled is the descriptor that wakes the loop.
func (l *Loop) Signalled() int { return l.event }
