package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// result is what a run has shown.
type result struct {
	Address     string  `json:"address"`
	Network     string  `json:"network"`
	Clients     int     `json:"clients"`
	Size        int     `json:"size"`
	Mode        string  `json:"mode"`           // closed or rate
	Rate        float64 `json:"rate,omitempty"` // packets a second that were wanted
	Warmup      float64 `json:"warmup_s"`
	Window      float64 `json:"window_s"` // shorter than wanted if interrupted
	Interrupted bool    `json:"interrupted"`

	MessagesPerSecond float64 `json:"messages_per_s"` // right replies that came in time, and within the window
	counts
	FirstError string `json:"first_error,omitempty"`

	Latency   percentiles  `json:"latency_us"`            // of the answered packets of the window
	Lag       *percentiles `json:"send_lag_us,omitempty"` // how late they were sent, part of the latency; with a rate
	Processes []process    `json:"processes,omitempty"`
	Self      *process     `json:"self,omitempty"` // the loadtest itself
}

// percentiles are in microseconds.
type percentiles struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// process is what a process used in the window.
type process struct {
	PID      int     `json:"pid"`
	Name     string  `json:"name"`
	CPU      float64 `json:"cpu_s"`       // user and system
	Percent  float64 `json:"cpu_percent"` // of one processor
	Resident int64   `json:"resident_bytes"`
	Error    string  `json:"error,omitempty"`
}

func newResult(l *load, before, after sight, interrupted bool) *result {
	window := time.Duration(max(0, after.at-l.tally.begin())) // none if interrupted before it
	between := time.Duration(after.at - before.at)
	r := &result{
		Address: l.cfg.addr, Network: l.cfg.network, Clients: l.cfg.clients, Size: l.cfg.size, Mode: "closed", Rate: l.cfg.rate,
		Warmup: l.cfg.warmup.Seconds(), Window: window.Seconds(), Interrupted: interrupted, counts: l.tally.sum(),
		MessagesPerSecond: perSecond(float64(after.counts.inWindow), window),
		Latency:           percentilesOf(l.tally.latency()),
	}
	if err := l.tally.firstError(); err != nil {
		r.FirstError = err.Error()
	}
	if !l.cfg.closedLoop() {
		r.Mode = "rate"
		lag := newHistogram()
		for _, p := range l.pacers {
			lag.Merge(p.lag)
		}
		shown := percentilesOf(lag)
		r.Lag = &shown
	}
	asked := len(l.cfg.pids)
	for i, u := range after.usage[:asked] {
		r.Processes = append(r.Processes, newProcess(before.usage[i], u, between))
	}
	if own := after.usage[asked]; own.err == nil { // there is /proc
		self := newProcess(before.usage[asked], own, between)
		r.Self = &self
	}
	return r
}

// perSecond is 0 for no time at all, which JSON could not express otherwise.
func perSecond(n float64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return n / d.Seconds()
}

func percentilesOf(h *hdrhistogram.Histogram) percentiles {
	if h.TotalCount() == 0 {
		return percentiles{}
	}
	micros := func(ns float64) float64 { return ns / float64(time.Microsecond) }
	at := func(p float64) float64 { return micros(float64(h.ValueAtPercentile(p))) }
	return percentiles{Mean: micros(h.Mean()), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: micros(float64(h.Max()))}
}

func newProcess(before, after usage, between time.Duration) process {
	if after.err != nil {
		return process{PID: after.pid, Name: before.name, Error: after.err.Error()}
	}
	used := after.cpu - before.cpu
	return process{
		PID: after.pid, Name: after.name, CPU: used.Seconds(), Percent: 100 * perSecond(used.Seconds(), between), Resident: after.resident,
	}
}

// fine reports whether every packet and every connection fared well.
func (r *result) fine() bool {
	c := r.counts
	return c.Lost+c.Unsent+c.Misrouted+c.Corrupted+c.Doubled+c.OutOfOrder+c.Errors == 0
}

// faults are what a look at the progress should find.
func (c counts) faults() string {
	return fmt.Sprintf("lost %d (late %d), misrouted %d, corrupted %d, doubled %d, out of order %d, errors %d",
		c.Lost, c.Late, c.Misrouted, c.Corrupted, c.Doubled, c.OutOfOrder, c.Errors)
}

func (r *result) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
