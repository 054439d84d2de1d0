package outq_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/outq"
)

func TestTake(t *testing.T) {
	errNetwork, errOver := errors.New("network"), errors.New("over")
	q := outq.New(1<<10, 10)
	var results []error
	put := func() {
		require.NoError(t, q.Put(frame.NewPacket(0, []byte("x"), func(err error) { results = append(results, err) })))
	}
	finish := func(p *frame.Packet, err error) { p.Finish(err) }

	taken, drained, err := q.Take(finish)
	assert.Empty(t, taken.Packets())
	assert.False(t, drained)
	assert.NoError(t, err)

	for range 3 {
		put()
	}
	taken, _, _ = q.Take(finish)
	require.Len(t, taken.Packets(), 3)
	assert.Equal(t, 3, q.Bytes(), "what is taken counts until it is settled")
	taken.Packets()[1].Refuse(errNetwork)
	assert.Empty(t, results)
	taken.Settle(finish)
	assert.Equal(t, []error{nil, errNetwork, nil}, results)
	assert.Zero(t, q.Bytes())

	q.Close(errOver)
	_, drained, err = q.Take(finish)
	assert.True(t, drained)
	assert.NoError(t, err)

	q, results = outq.New(1<<10, 10), nil
	put()
	q.Abort(errOver)
	taken, _, err = q.Take(finish)
	assert.Empty(t, taken.Packets())
	assert.Equal(t, errOver, err)
	assert.Equal(t, []error{errOver}, results, "it was finished")
}
