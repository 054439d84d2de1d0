package gateway

import (
	"fmt"
	"testing"

	"github.com/minotaur-gateway/gateway/client"
)

// offline returns an endpoint of a gateway that doesn't run, with so many links that nothing can be written to.
func offline(g *Gateway, address string, links int) *Endpoint {
	e := NewEndpoint("game", client.NewTCP(address))
	e.gw.Store(g)
	for range links {
		e.links = append(e.links, &link{endpoint: e, gw: g, up: true})
	}
	e.live.Store(int32(links))
	return e
}

// unpin takes a session off its lane.
func (o *opening) unpin() {
	o.lane.Load().sessions--
	o.lane.Store(nil)
}

func BenchmarkChooseLane(b *testing.B) {
	g := NewGateway(nil, nil)
	for _, links := range []int{1, 4, 32} {
		b.Run(fmt.Sprintf("%d links", links), func(b *testing.B) {
			e := offline(g, "10.0.0.1:1", links)
			o := &opening{endpoint: e, session: &session{}}
			b.ReportAllocs()
			for b.Loop() {
				if e.chooseLane(o) == nil {
					b.Fatal("none")
				}
				o.unpin()
			}
		})
	}
}

var allSelectors = []struct {
	name string
	EndpointSelector
}{
	{"weighted", WeightedSelector()},
	{"random", RandomSelector()},
	{"round robin", RoundRobinSelector()},
	{"best", BestSelector()},
	{"power of two", PowerOfTwoSelector()},
	{"fewest sessions", FewestSessionsSelector()},
	{"rendezvous", func(endpoints []*Endpoint) *Endpoint { return rendezvous(endpoints, "player 7") }},
}

func offlines(n int) (all []*Endpoint) {
	g := NewGateway(nil, nil)
	for i := range n {
		all = append(all, offline(g, fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), 1))
	}
	return all
}

func BenchmarkSelector(b *testing.B) {
	for _, s := range allSelectors {
		for _, n := range []int{2, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d endpoints", s.name, n), func(b *testing.B) {
				endpoints := offlines(n)
				b.ReportAllocs()
				for b.Loop() {
					if s.EndpointSelector(endpoints) == nil {
						b.Fatal("none")
					}
				}
			})
		}
	}
}
