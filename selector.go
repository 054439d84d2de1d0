package gateway

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// EndpointSelector chooses one of the usable endpoints, or returns nil if none suits. endpoints all have the name that
// was asked for, are ordered by address, and never empty; the slice is shared and must not be changed. A selector is
// called by several goroutines at once. One that panics or returns a stranger has chosen none.
type EndpointSelector func(endpoints []*Endpoint) *Endpoint

// WeightedSelector chooses at random, each endpoint as often as its state times its weight. It is the default.
func WeightedSelector() EndpointSelector { return selectWeighted }

func selectWeighted(endpoints []*Endpoint) *Endpoint {
	var few [32]float64 // states move while they are read: each is read once
	shares := few[:0]
	total := 0.0
	for _, e := range endpoints {
		share := e.GetState() * e.weight
		total += share
		shares = append(shares, share)
	}
	if total <= 0 || math.IsInf(total, 0) {
		return endpoints[rand.IntN(len(endpoints))]
	}
	left := rand.Float64() * total
	last := 0
	for i, share := range shares {
		if share <= 0 {
			continue
		}
		if last = i; left < share {
			break
		}
		left -= share
	}
	return endpoints[last]
}

// RandomSelector chooses at random, all endpoints alike.
func RandomSelector() EndpointSelector {
	return func(endpoints []*Endpoint) *Endpoint { return endpoints[rand.IntN(len(endpoints))] }
}

// RoundRobinSelector takes one endpoint after another, for each name by itself.
func RoundRobinSelector() EndpointSelector {
	var turns sync.Map // name -> *atomic.Uint64
	return func(endpoints []*Endpoint) *Endpoint {
		turn, ok := turns.Load(endpoints[0].name)
		if !ok {
			turn, _ = turns.LoadOrStore(endpoints[0].name, new(atomic.Uint64))
		}
		return endpoints[(turn.(*atomic.Uint64).Add(1)-1)%uint64(len(endpoints))]
	}
}

// BestSelector chooses the endpoint with the highest state times weight, the first by address among equals.
func BestSelector() EndpointSelector {
	return func(endpoints []*Endpoint) *Endpoint {
		return least(endpoints, func(e *Endpoint) float64 { return -e.GetState() * e.weight })
	}
}

// PowerOfTwoSelector looks at two endpoints at random and chooses the one with less load: (sessions + 1) / (state * weight).
// See Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
func PowerOfTwoSelector() EndpointSelector {
	return func(endpoints []*Endpoint) *Endpoint {
		n := len(endpoints)
		if n == 1 {
			return endpoints[0]
		}
		a := rand.IntN(n)
		b := rand.IntN(n - 1)
		if b >= a {
			b++
		}
		pair := [2]*Endpoint{endpoints[a], endpoints[b]}
		return least(pair[:], func(e *Endpoint) float64 {
			return float64(e.Sessions()+1) / (e.GetState() * e.weight)
		})
	}
}

// FewestSessionsSelector chooses the endpoint with the fewest sessions for its weight, the first by address among equals.
func FewestSessionsSelector() EndpointSelector {
	return func(endpoints []*Endpoint) *Endpoint {
		return least(endpoints, func(e *Endpoint) float64 { return float64(e.Sessions()+1) / e.weight })
	}
}

// least returns the endpoint that costs least, the first one among equals.
func least(endpoints []*Endpoint, cost func(*Endpoint) float64) *Endpoint {
	best, bestCost := endpoints[0], cost(endpoints[0])
	for _, e := range endpoints[1:] {
		if c := cost(e); c < bestCost {
			best, bestCost = e, c
		}
	}
	return best
}

// rendezvous returns the endpoint that key belongs to: each endpoint's score is made of key and address alone, so that
// an endpoint that comes or goes moves only its own share of keys. Weights after Schindelhauer and Schomaker's
// logarithmic method: -weight / ln(hash).
func rendezvous(endpoints []*Endpoint, key string) *Endpoint {
	return least(endpoints, func(e *Endpoint) float64 {
		h := fnv.New64a()
		h.Write([]byte(e.address))
		h.Write([]byte{0})
		h.Write([]byte(key))
		unit := (float64(mix(h.Sum64())>>11) + 0.5) / (1 << 53) // in (0, 1)
		return -math.Log(unit) / e.weight
	})
}

// mix spreads what FNV leaves alike in the high bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
