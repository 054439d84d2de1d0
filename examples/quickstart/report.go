package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway"
)

// report counts what bots and gateways tell it, and prints it.
type report struct {
	out   io.Writer
	began time.Time

	mu        sync.Mutex // guards the rest
	bots      int        // online
	latencies []time.Duration
	since     time.Time // when latencies began

	messages     int // each number once, however often it had to be sent
	heards       [verdicts]int
	noReply      map[string]bool // messages that are missing
	lost         map[string]bool // messages that were in flight to an endpoint when it died
	cut          int             // connections of bots that ended although the bot had not left
	notConnected int
	notWritten   int // packets that a gateway could not write to their player
	notDelivered int // packets from endpoints that a gateway dropped: for players who had left, mostly
}

func newReport(out io.Writer) *report {
	now := time.Now()
	return &report{out: out, began: now, since: now, noReply: map[string]bool{}, lost: map[string]bool{}}
}

func (r *report) online(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bots += n
}

func (r *report) sent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages++
}

// heard counts a packet that came back, about the message text.
func (r *report) heard(v verdict, text string, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heards[v]++
	switch v {
	case answered:
		r.latencies = append(r.latencies, latency)
	case late, outOfOrder, overdue:
		delete(r.noReply, text)
	}
}

func (r *report) missing(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noReply[text] = true
}

// explains reports whether all these messages were in flight to an endpoint that died.
func (r *report) explains(texts []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(texts, func(text string) bool { return !r.lost[text] })
}

func (r *report) inFlight(texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range texts {
		r.lost[text] = true
	}
}

func (r *report) cutOff() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut++
}

func (r *report) unwritten() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notWritten++
}

func (r *report) dropped(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notDelivered += int(n)
}

func (r *report) unreachable(err error) {
	r.say("a bot could not connect: %v", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notConnected++
}

// say prints a line of the story.
func (r *report) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%6.2fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// second prints what happened in the last second.
func (r *report) second(fronts []*front) {
	endpoints := describe("A", fronts, func(f *front) *gateway.Endpoint { return f.a }) +
		describe("B", fronts, func(f *front) *gateway.Endpoint { return f.b })
	r.mu.Lock()
	defer r.mu.Unlock()
	rate := float64(len(r.latencies)) / time.Since(r.since).Seconds()
	slices.Sort(r.latencies)
	fmt.Fprintf(r.out, "%6.2fs  %d bots  %5.0f messages/s  p50 %5.2f ms  p99 %6.2f ms%s\n",
		time.Since(r.began).Seconds(), r.bots, rate, percentile(r.latencies, 50), percentile(r.latencies, 99), endpoints)
	r.latencies, r.since = r.latencies[:0], time.Now()
}

// percentile returns the p-th percentile of sorted latencies in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[(len(sorted)-1)*p/100]) / float64(time.Millisecond)
}

// describe returns an endpoint's share of the players, and its state as each of the gateways sees it.
func describe(name string, fronts []*front, of func(*front) *gateway.Endpoint) string {
	players, all := 0, 0
	var states []string
	for _, f := range fronts {
		players += of(f).Sessions()
		all += f.a.Sessions() + f.b.Sessions()
		states = append(states, fmt.Sprintf("%.3f", of(f).GetState()))
	}
	share := 100 * float64(players) / float64(max(all, 1))
	return fmt.Sprintf("  |  %s %3.0f%% state %s", name, share, strings.Join(states, " "))
}

// summary prints the totals, and reports whether everything was as it should be: nothing misrouted, doubled or out of
// order, nobody cut off, and nothing missing but what was in flight to an endpoint that was killed.
func (r *report) summary() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	unexplained := 0
	for text := range r.noReply {
		if !r.lost[text] {
			unexplained++
		}
	}
	ok := r.heards[misrouted]+r.heards[doubled]+r.heards[outOfOrder]+unexplained+r.cut+r.notConnected == 0
	fmt.Fprintln(r.out)
	for _, line := range []struct {
		name  string
		count int
	}{
		{"messages", r.messages},
		{"answered in time", r.heards[answered]},
		{"answered late, after " + replyTimeout.String(), r.heards[late]},
		{"misrouted", r.heards[misrouted]},
		{"doubled", r.heards[doubled]},
		{"out of order", r.heards[outOfOrder]},
		{"missing", len(r.noReply)},
		{"in flight to A when it was killed", len(r.lost)},
		{"missing, and not in flight then", unexplained},
		{"refused by a gateway, and sent again", r.heards[refused] + r.heards[overdue]},
		{"replies dropped by a gateway", r.notDelivered},
		{"replies not written to their bot", r.notWritten},
		{"bots cut off", r.cut},
		{"bots that could not connect", r.notConnected},
	} {
		fmt.Fprintf(r.out, "%-38s %9d\n", line.name, line.count)
	}
	verdict := "everything arrived where it belongs"
	if !ok {
		verdict = "SOMETHING IS WRONG"
	}
	fmt.Fprintln(r.out, verdict)
	return ok
}
