package gateway_test

import (
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
)

// oneEndpoint plays with an endpoint that answers after delay.
func oneEndpoint(t *testing.T, play func(w *world, e *gateway.Endpoint, delay *atomic.Int64), options ...gateway.EndpointOption) {
	var e *gateway.Endpoint
	inWorld(t, time.Second, func(w *world) found {
		if e == nil {
			e = w.endpoint("a", options...)
		}
		return found{endpoints: []*gateway.Endpoint{e}}
	}, func(w *world) {
		var delay atomic.Int64
		stop := w.backend("a", &delay)
		defer stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		play(w, e, &delay)
	})
}

func TestStateFollowsDelay(t *testing.T) {
	oneEndpoint(t, func(w *world, e *gateway.Endpoint, delay *atomic.Int64) {
		cli, got := w.join()
		defer cli.Close()
		ask := func() { cli.Write([]byte("x")); <-got }
		want := func(d time.Duration) float64 { return 1 / (1 + 1.5*d.Seconds()) }

		ask()
		assert.InDelta(t, 1, e.GetState(), 1e-6, "an answer at once")
		delay.Store(int64(time.Second))
		ask()
		assert.InDelta(t, want(time.Second), e.GetState(), 0.001, "a slowdown counts at once")
		delay.Store(int64(10 * time.Millisecond))
		ask()
		assert.InDelta(t, want(time.Second), e.GetState(), 0.01, "one quick answer doesn't make it good")
		before := e.GetState()
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			ask()
			assert.GreaterOrEqual(t, e.GetState(), before-1e-9, "it recovers without falling back")
			before = e.GetState()
		}
		assert.Greater(t, e.GetState(), want(400*time.Millisecond), "gently: a third is left after ten seconds")
		assert.Less(t, e.GetState(), want(300*time.Millisecond))
		time.Sleep(time.Minute)
		assert.InDelta(t, 1, e.GetState(), 0.01, "what is not asked gets another chance")
	})
}

// A reply that takes longer than 5 s is no measurement: an answer can't be told from a push there.
func TestLateReplyIsDiscarded(t *testing.T) {
	oneEndpoint(t, func(w *world, e *gateway.Endpoint, delay *atomic.Int64) {
		cli, got := w.join()
		defer cli.Close()
		delay.Store(int64(6 * time.Second))
		cli.Write([]byte("x"))
		<-got
		assert.Less(t, e.Delay(), time.Second)
		assert.EqualValues(t, 1, w.Stats().Unanswered)
	})
}

func TestStateEvaluator(t *testing.T) {
	for _, test := range []struct {
		name     string
		evaluate func(float64) float64
		want     float64
	}{
		{"the user's own", func(cost float64) float64 { return 7 }, 7},
		{"negative", func(float64) float64 { return -1 }, 0},
		{"no number", func(float64) float64 { return math.NaN() }, 0},
		{"infinite", func(float64) float64 { return math.Inf(1) }, math.MaxFloat64},
		{"panic", func(float64) float64 { panic("evaluator") }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			oneEndpoint(t, func(w *world, e *gateway.Endpoint, _ *atomic.Int64) {
				assert.Equal(t, test.want, e.GetState())
				chosen, err := w.GetEndpoint("game")
				assert.NoError(t, err)
				assert.True(t, e == chosen, "it can still be chosen")
			}, gateway.WithEndpointStateEvaluator(test.evaluate))
		})
	}
	oneEndpoint(t, func(w *world, e *gateway.Endpoint, delay *atomic.Int64) {
		cli, got := w.join()
		defer cli.Close()
		delay.Store(int64(250 * time.Millisecond))
		cli.Write([]byte("x"))
		<-got
		assert.InDelta(t, float64(250*time.Millisecond), e.GetState(), float64(time.Millisecond), "its argument is nanoseconds")
	}, gateway.WithEndpointStateEvaluator(func(cost float64) float64 { return cost }))
}
