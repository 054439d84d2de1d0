package frame

// Held returns how large the buffer is that b holds.
func Held(b *Inbound) int { return len(b.buf) }

// Pooled returns the pool's buffer that b has to give back, nil if none.
func Pooled(b *Inbound) *[]byte { return b.pooled }

// The bounds of what is kept.
const (
	GatherLimit     = gatherLimit
	LargestBorrowed = largestBorrowed
	SlabSize        = slabSize
	SlabSmall       = slabSmall
	BusyReadBuffer  = busyReadBuffer
	IdleReadBuffer  = idleReadBuffer
)
