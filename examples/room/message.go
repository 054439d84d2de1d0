package main

import "math"

// What players and backends say to each other, as JSON. The gateway doesn't look at it.

// order is what a player sends: once a hello, and then where it is.
type order struct {
	Hello string  `json:"hello,omitempty"` // the name
	N     uint64  `json:"n"`               // numbers the moves from 1; of a hello, the number of the last move
	X     float64 `json:"x"`               // 0 to 1, as is the next
	Y     float64 `json:"y"`
}

// notice is what a backend says to one player.
type notice struct {
	You     int    `json:"you,omitempty"` // the player's dot
	Backend string `json:"backend"`
	Moved   bool   `json:"moved,omitempty"` // you were on another backend until now
	Who     bool   `json:"who,omitempty"`   // you are not known here: say hello
}

// picture is what a backend casts to all of its players, at every tick.
type picture struct {
	Dots     []dot                   `json:"dots"`
	Backends map[string]backendState `json:"backends"`
}

// player is what a backend knows of a player. It goes along when the player is moved.
type player struct {
	ID   int     `json:"id"`
	Name string  `json:"name"`
	N    uint64  `json:"n"` // of the last move
	X    float64 `json:"x"`
	Y    float64 `json:"y"`
}

// move takes a player to where it wants to be, and returns how many of its moves before that one never came. late is true
// for one that came before, or was overtaken.
func (p *player) move(o order) (lost uint64, late bool) {
	if o.N <= p.N {
		return 0, true
	}
	lost = o.N - p.N - 1
	p.N, p.X, p.Y = o.N, within(o.X), within(o.Y)
	return lost, false
}

// within returns where in the room v is, with four digits: a picture has many of them.
func within(v float64) float64 { return math.Round(1e4*min(max(v, 0), 1)) / 1e4 }

const longestName = 24

func shortened(name string) string {
	runes := []rune(name)
	return string(runes[:min(len(runes), longestName)])
}
