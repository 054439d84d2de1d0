package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

// A session's lane is the link with the fewest sessions, on the client's own event loop where there is one.
func TestLaneChoice(t *testing.T) {
	if !loop.Supported {
		t.Skip("no event loops")
	}
	here, there := &loop.Loop{}, &loop.Loop{}
	for _, test := range []struct {
		name  string
		own   *loop.Loop
		links []*link
		want  int
	}{
		{"no loops", nil, []*link{{sessions: 2}, {sessions: 1}, {sessions: 3}}, 1},
		{"the first of equals", nil, []*link{{sessions: 1}, {sessions: 1}}, 0},
		{"own loop, though there are more", here, []*link{{loop: there}, {loop: here, sessions: 9}, {}}, 1},
		{"the fewest of the own loop", here, []*link{{loop: here, sessions: 9}, {loop: there}, {loop: here, sessions: 4}}, 2},
		{"none on the own loop", here, []*link{{loop: there, sessions: 2}, {loop: there, sessions: 1}}, 1},
	} {
		e := &Endpoint{links: test.links}
		assert.Same(t, test.links[test.want], e.leastOn(test.own), test.name)
	}
	e := &Endpoint{}
	assert.Nil(t, e.leastOn(here))
}
