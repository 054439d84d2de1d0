package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

const (
	stepTime   = 50 * time.Millisecond
	stepLength = 0.012 // of the room's width
	mostMissed = 20    // pictures in a row that a dot may be missing in: those of a second
)

// bot is a player who walks about, and watches that its own dot is there.
type bot struct {
	name   string // static, as are the next ones up to cut
	cli    *client.Client
	report *report
	news   chan struct{} // holds something when there is a new picture
	cut    chan struct{} // closed when the connection has ended

	n         uint64 // of the last move; owned by run, as are the next
	x, y      float64
	direction float64

	mu     sync.Mutex // guards the rest
	id     int        // of its dot; 0: not known yet
	who    bool       // it was asked for its name
	shown  uint64     // the move that its dot was last seen at
	missed int        // pictures that have come since
	blind  bool       // it has complained about not seeing its dot
}

func newBot(name, url string, report *report) *bot {
	b := &bot{
		name: name, cli: client.NewWebsocket(url), report: report, news: make(chan struct{}, 1), cut: make(chan struct{}),
		x: rand.Float64(), y: rand.Float64(), direction: 2 * math.Pi * rand.Float64(),
	}
	b.cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) { b.hear(packet) })
	b.cli.RegConnectionClosedEvent(func(*client.Client, any) { close(b.cut) })
	return b
}

// run connects and walks until ctx is done, and leaves when its last move was seen.
func (b *bot) run(ctx context.Context) {
	if err := b.cli.Run(); err != nil {
		b.report.fault("%s can't connect: %v", b.name, err)
		return
	}
	defer b.cli.Close()
	b.say(order{Hello: b.name, X: b.x, Y: b.y})
	next := time.NewTicker(stepTime)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			b.step()
			b.watch()
		case <-b.cut:
			b.report.fault("%s was cut off", b.name)
			return
		case <-ctx.Done():
			b.finish()
			return
		}
	}
}

// step goes on in about the same direction, and turns round at the walls.
func (b *bot) step() {
	b.direction += 0.4 * (rand.Float64() - 0.5)
	x, y := b.x+stepLength*math.Cos(b.direction), b.y+stepLength*math.Sin(b.direction)
	if x < 0 || x > 1 || y < 0 || y > 1 {
		b.direction += math.Pi / 2
	}
	b.n++
	b.x, b.y = within(x), within(y)
	b.say(order{N: b.n, X: b.x, Y: b.y})
}

func (b *bot) say(o order) {
	packet, err := json.Marshal(o)
	if err != nil {
		b.report.fault("%s: %v", b.name, err)
		return
	}
	b.cli.Write(packet) // fails only if the connection is lost: see cut
}

// hear runs on the goroutine that reads.
func (b *bot) hear(packet []byte) {
	var err error
	b.look(func() {
		if bytes.HasPrefix(packet, []byte(`{"dots":`)) {
			err = b.seeLocked(packet)
		} else {
			err = b.noteLocked(packet)
		}
	})
	if err != nil {
		b.report.fault("%s: not understood: %v", b.name, err)
	}
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *bot) noteLocked(packet []byte) error {
	var n notice
	if err := json.Unmarshal(packet, &n); err != nil {
		return err
	}
	b.who = b.who || n.Who
	if n.You != 0 {
		b.id = n.You
	}
	return nil
}

// seeLocked looks for the bot's own dot in a picture and decodes no other: each of 200 bots gets 4000 dots a second.
func (b *bot) seeLocked(packet []byte) error {
	at := bytes.Index(packet, fmt.Appendf(nil, `{"id":%d,`, b.id)) // which no name contains: there it would be {\"id\":
	if at < 0 {
		b.missed++
		return nil
	}
	var d dot
	if err := json.NewDecoder(bytes.NewReader(packet[at:])).Decode(&d); err != nil {
		return err
	}
	b.shown, b.missed, b.blind = d.N, 0, false
	return nil
}

func (b *bot) look(at func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at()
}

// watch complains if the bot's dot was missing in too many pictures, and tells its name if it was asked. Whether there are any
// pictures is seen at the end: on a busy machine they may take their time.
func (b *bot) watch() {
	var complain, answer bool
	var missed int
	b.look(func() {
		missed = b.missed
		complain = missed > mostMissed && !b.blind
		b.blind = b.blind || complain
		answer, b.who = b.who, false
	})
	if complain {
		b.report.fault("%s has not seen its dot in %d pictures", b.name, missed)
	}
	if answer {
		b.say(order{Hello: b.name, N: b.n, X: b.x, Y: b.y})
	}
}

// finish waits until the bot's last move is seen.
func (b *bot) finish() {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		var shown uint64
		b.look(func() { shown = b.shown })
		if shown == b.n {
			return
		}
		select {
		case <-b.news:
		case <-b.cut:
			b.report.fault("%s was cut off", b.name)
			return
		case <-limit.C:
			b.report.fault("%s sees its dot at move %d of %d", b.name, shown, b.n)
			return
		}
	}
}
