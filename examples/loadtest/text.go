package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeText writes the result for people.
func (r *result) writeText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) } // t keeps the error for Flush
	mode := "closed loop"
	if r.Rate > 0 {
		mode = fmt.Sprintf("%g packets/s", r.Rate)
	}
	line("load", "%d clients, %s, %d bytes, %s", r.Clients, r.Address, r.Size, mode)
	window := fmt.Sprintf("%.2f s after %g s of warm-up", r.Window, r.Warmup)
	if r.Interrupted {
		window += ", interrupted"
	}
	line("window", "%s", window)
	line("messages/s", "%.0f", r.MessagesPerSecond)
	line("packets", "sent %d = answered %d + lost %d (late %d); unsent %d", r.Sent, r.Answered, r.Lost, r.Late, r.Unsent)
	line("latency", "%s", r.Latency)
	if r.Lag != nil {
		line("sent late by", "%s", *r.Lag)
	}
	line("misrouted", "%d", r.Misrouted)
	line("corrupted", "%d", r.Corrupted)
	line("doubled", "%d", r.Doubled)
	line("out of order", "%d", r.OutOfOrder)
	line("errors", "%d %s", r.Errors, r.FirstError)
	for _, p := range r.Processes {
		line(fmt.Sprintf("process %d", p.PID), "%s", p)
	}
	if r.Self != nil {
		line("this loadtest", "%s", *r.Self)
	}
	return t.Flush()
}

func (p percentiles) String() string {
	return fmt.Sprintf("mean %s, p50 %s, p90 %s, p99 %s, p99.9 %s, max %s",
		millis(p.Mean), millis(p.P50), millis(p.P90), millis(p.P99), millis(p.P999), millis(p.Max))
}

func millis(micros float64) string { return fmt.Sprintf("%.3f ms", micros/1000) }

func (p process) String() string {
	if p.Error != "" {
		return p.Name + ": " + p.Error
	}
	return fmt.Sprintf("%s: CPU %.2f s (%.0f %% of one), memory %.1f MiB", p.Name, p.CPU, p.Percent, float64(p.Resident)/(1<<20))
}
