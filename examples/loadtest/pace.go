package main

import (
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// roundsAtOnce bounds what a pacer that is late puts together, in packets of each client.
const roundsAtOnce = 16

// overtime is what a pacer gets for packets that were due before the end, and are not sent yet.
const overtime = time.Second

// pacer sends the packets of a part of the clients, client after client, each at its own time. A packet that can't be sent
// then is sent later, and its latency counts from when it was to be sent: a gateway that stalls can't hide that.
type pacer struct {
	load  *load
	bots  []*bot
	first int64   // when the first packet is due
	gap   float64 // nanoseconds from one packet to the next

	lag *hdrhistogram.Histogram // how late packets were sent; owned by run until it has returned
}

// newPacers leaves half of the processors to those who read: a short pause keeps one.
func newPacers(l *load) []*pacer {
	n := min(max(1, runtime.GOMAXPROCS(0)/2), len(l.bots))
	pacers := make([]*pacer, n)
	for i := range pacers {
		own := l.bots[i*len(l.bots)/n : (i+1)*len(l.bots)/n]
		gap := float64(time.Second) / l.cfg.rate * float64(len(l.bots)) / float64(len(own))
		pacers[i] = &pacer{
			load: l, bots: own, gap: gap, lag: newHistogram(),
			first: l.now() + int64(gap*float64(i)/float64(n)),
		}
	}
	return pacers
}

func (p *pacer) due(packet int64) int64 { return p.first + int64(float64(packet)*p.gap) }

// run sends until the load's end. What was due before that and could not be sent is counted.
func (p *pacer) run() {
	next := int64(0)
	for {
		now, end := p.load.now(), p.load.end.Load()
		if p.due(next) >= end || now > end && now-end > int64(overtime) {
			break
		}
		if wait := p.due(next) - now; wait > 0 {
			pause(time.Duration(wait))
			continue
		}
		next = p.send(next, min(now, end-1), now)
	}
	for end := p.load.end.Load(); p.due(next) < end; next++ {
		p.bots[next%int64(len(p.bots))].tally.unsent(p.due(next))
	}
}

// send sends the packets that are due until a time, from one on, and returns the number of the next. The packets of each
// client are written together.
func (p *pacer) send(from, until, now int64) (next int64) {
	n := int64(len(p.bots))
	for next = from; next < from+roundsAtOnce*n; next++ {
		at := p.due(next)
		if at > until {
			break
		}
		p.bots[next%n].put(at)
		if at >= p.load.tally.begin() {
			recordIn(p.lag, now-at)
		}
	}
	for i := from; i < min(next, from+n); i++ {
		p.bots[i%n].flush()
	}
	return next
}
