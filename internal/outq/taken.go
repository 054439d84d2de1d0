package outq

import "github.com/minotaur-gateway/gateway/internal/frame"

// Taken is what was taken from a queue at once, for a goroutine that writes the packets of many queues with one call. Until it is
// settled nothing more can be taken from the queue.
type Taken struct {
	queue *Queue
	batch *[]*frame.Packet
}

// Take is Drive in two halves: what it returns is to be written and settled, unless it is empty. drained and err are Drive's.
func (q *Queue) Take(finish FinishFunc) (t Taken, drained bool, err error) {
	batch, drained, err := q.take()
	if err != nil {
		q.Discard(err, finish)
	}
	return Taken{q, batch}, drained, err
}

// Packets returns what was taken, in order.
func (t Taken) Packets() []*frame.Packet {
	if t.batch == nil {
		return nil
	}
	return *t.batch
}

// Settle finishes all of it, as written but for those that were refused (frame.Packet.Refuse). It is for a Taken that isn't empty.
func (t Taken) Settle(finish FinishFunc) { t.queue.settle(t.batch, len(*t.batch), nil, finish) }
