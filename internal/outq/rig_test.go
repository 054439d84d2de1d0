package outq_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

// silent puts a packet without a callback.
func (r *rig) silent(name string) error { return r.Put(frame.BorrowPacket(0, []byte(name))) }

// sink is where packets are written to. Not being guarded by anything, it lets the race detector find two who write at a time.
type sink struct {
	written []string
	takes   []int // packets that a call takes, one after another; then all
	err     error // of the call that takes the last of these
}

func (s *sink) write(packets []*frame.Packet) (int, error) {
	n := len(packets)
	var err error
	if len(s.takes) > 0 {
		n = min(n, s.takes[0])
		if s.takes = s.takes[1:]; len(s.takes) == 0 {
			err = s.err
		}
	}
	for _, p := range packets[:n] {
		s.written = append(s.written, string(p.Bytes()))
	}
	return n, err
}

func refuse(t testing.TB) outq.WriteFunc {
	return func(packets []*frame.Packet) (int, error) {
		assert.Fail(t, "nothing was to be written", "%d packets", len(packets))
		return len(packets), nil
	}
}

func names(results []result) (all []string) {
	for _, r := range results {
		all = append(all, r.name)
	}
	return all
}

var errFull = outq.ErrFull
