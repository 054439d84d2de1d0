package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

// spec says what an endpoint of a selector's test is like.
type spec struct {
	state, weight float64
	sessions      int
}

// choose counts what a selector chooses among endpoints that are like specs.
func choose(t *testing.T, draws int, selector gateway.EndpointSelector, specs ...spec) []float64 {
	var endpoints []*gateway.Endpoint
	byAddress := map[string]int{}
	shares := make([]float64, len(specs))
	inWorld(t, time.Hour, func(w *world) found {
		for i, s := range specs {
			addr := fmt.Sprintf("e%02d", i)
			byAddress[addr] = i
			endpoints = append(endpoints, w.endpoint(addr, gateway.WithEndpointWeight(s.weight),
				gateway.WithEndpointStateEvaluator(func(float64) float64 { return s.state })))
		}
		return found{endpoints: endpoints}
	}, func(w *world) {
		for i, e := range endpoints {
			defer w.backend(e.GetAddress(), nil)()
			for range specs[i].sessions {
				gateway.AddSession(e)
			}
		}
		time.Sleep(2 * time.Second)
		for range draws {
			e, err := w.GetEndpoint("game")
			require.NoError(t, err)
			shares[byAddress[e.GetAddress()]] += 1 / float64(draws)
		}
	}, gateway.WithEndpointSelector(selector))
	return shares
}

func TestSelectors(t *testing.T) {
	even := []spec{{1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 0}}
	for _, test := range []struct {
		name     string
		selector gateway.EndpointSelector
		specs    []spec
		want     []float64
	}{
		{"weighted: by state", gateway.WeightedSelector(), []spec{{0.6, 1, 0}, {0.3, 1, 0}, {0.1, 1, 0}}, []float64{0.6, 0.3, 0.1}},
		{"weighted: by weight", gateway.WeightedSelector(), []spec{{1, 3, 0}, {1, 1, 0}}, []float64{0.75, 0.25}},
		{"weighted: none left out for ever", gateway.WeightedSelector(), []spec{{0, 1, 0}, {0, 1, 0}}, []float64{0.5, 0.5}},
		{"weighted: weight 0 gets nobody", gateway.WeightedSelector(), []spec{{1, 0, 0}, {0.1, 1, 0}}, []float64{0, 1}},
		{"weighted: the default", nil, []spec{{0.8, 1, 0}, {0.2, 1, 0}}, []float64{0.8, 0.2}},
		{"random", gateway.RandomSelector(), []spec{{0.9, 5, 0}, {0.1, 1, 0}}, []float64{0.5, 0.5}},
		{"round robin", gateway.RoundRobinSelector(), even, []float64{0.25, 0.25, 0.25, 0.25}},
		{"best", gateway.BestSelector(), []spec{{0.5, 1, 0}, {0.9, 1, 0}, {0.9, 1, 0}}, []float64{0, 1, 0}},
		{"best: weighed", gateway.BestSelector(), []spec{{0.5, 2, 0}, {0.9, 1, 0}}, []float64{1, 0}},
		{"fewest sessions", gateway.FewestSessionsSelector(), []spec{{1, 1, 5}, {1, 1, 2}, {1, 1, 3}}, []float64{0, 1, 0}},
		{"fewest sessions: weighed", gateway.FewestSessionsSelector(), []spec{{1, 4, 5}, {1, 1, 2}}, []float64{1, 0}},
		{"two choices: never the worst", gateway.PowerOfTwoSelector(), []spec{{1, 1, 9}, {1, 1, 1}, {1, 1, 0}}, []float64{0, 1. / 3, 2. / 3}},
		{"two choices: by state", gateway.PowerOfTwoSelector(), []spec{{0.1, 1, 1}, {1, 1, 2}}, []float64{0, 1}},
		{"two choices: one endpoint", gateway.PowerOfTwoSelector(), []spec{{1, 1, 1}}, []float64{1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			shares := choose(t, 4000, test.selector, test.specs...)
			for i, want := range test.want {
				if want == 0 || want == 1 {
					assert.InDelta(t, want, shares[i], 1e-9, "endpoint %d", i)
				} else {
					assert.InDelta(t, want, shares[i], 0.04, "endpoint %d", i)
				}
			}
		})
	}
}

// A selector that returns nil or a stranger, or panics, has chosen none, and nothing else is harmed.
func TestSelectorsThatFail(t *testing.T) {
	stranger := gateway.NewEndpoint("game", nil)
	for name, selector := range map[string]gateway.EndpointSelector{
		"nil":      func([]*gateway.Endpoint) *gateway.Endpoint { return nil },
		"stranger": func([]*gateway.Endpoint) *gateway.Endpoint { return stranger },
		"panic":    func([]*gateway.Endpoint) *gateway.Endpoint { panic("selector") },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, time.Hour, of("a"), func(w *world) {
				defer w.backend("a", nil)()
				time.Sleep(2 * time.Second)
				_, err := w.GetEndpoint("game")
				assert.Equal(t, gateway.ErrEndpointNotExists, err)
				e, err := w.GetEndpointByKey("game", "x")
				assert.NoError(t, err)
				assert.Equal(t, "a", e.GetAddress())
			}, gateway.WithEndpointSelector(selector))
		})
	}
}

func TestGetEndpointByKey(t *testing.T) {
	const keys = 3000
	owner := func(specs ...spec) (owners map[string]string) {
		owners = map[string]string{}
		var endpoints []*gateway.Endpoint
		inWorld(t, time.Hour, func(w *world) found {
			for i, s := range specs {
				endpoints = append(endpoints, w.endpoint(fmt.Sprintf("e%02d", i), gateway.WithEndpointWeight(s.weight)))
			}
			return found{endpoints: endpoints}
		}, func(w *world) {
			for _, e := range endpoints {
				defer w.backend(e.GetAddress(), nil)()
			}
			time.Sleep(2 * time.Second)
			for i := range keys {
				key := fmt.Sprintf("player %d", i)
				e, err := w.GetEndpointByKey("game", key)
				require.NoError(t, err)
				again, err := w.GetEndpointByKey("game", key)
				require.NoError(t, err)
				require.True(t, e == again)
				owners[key] = e.GetAddress()
			}
			_, err := w.GetEndpointByKey("nobody", "x")
			assert.ErrorIs(t, err, gateway.ErrEndpointNotExists)
		})
		return owners
	}
	three, four := owner(spec{1, 1, 0}, spec{1, 1, 0}, spec{1, 1, 0}), owner(spec{1, 1, 0}, spec{1, 1, 0}, spec{1, 1, 0}, spec{1, 1, 0})
	count := map[string]int{}
	moved := 0
	for key, before := range three {
		count[before]++
		if after := four[key]; after != before {
			moved++
			assert.Equal(t, "e03", after, "only to the new one")
		}
	}
	for addr, n := range count {
		assert.InDelta(t, keys/3, n, keys/20, addr)
	}
	assert.InDelta(t, keys/4, moved, keys/20)

	weighed := map[string]int{}
	for _, addr := range owner(spec{1, 3, 0}, spec{1, 1, 0}) {
		weighed[addr]++
	}
	assert.InDelta(t, keys*3/4, weighed["e00"], keys/20)
}
