package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	progressInterval = time.Second
	drainInterval    = 10 * time.Millisecond
	sweepInterval    = 100 * time.Millisecond // or a quarter of the timeout
)

// load is one run. Goroutines: one that reads for each client, pacers if there is a rate, and sweep.
type load struct {
	cfg      *config // static, as are the next three
	packets  *packets
	epoch    time.Time
	progress io.Writer

	bots   []*bot // static once connected, as is tally
	tally  tally
	pacers []*pacer

	end     atomic.Int64  // packets due then or later are not sent; the highest number until it is known
	closing atomic.Bool   // connections end because we say so
	alive   atomic.Int64  // clients that are connected
	nobody  chan struct{} // closed when none is left
	done    chan struct{} // closed when sweep has to end
	running sync.WaitGroup
	pacing  sync.WaitGroup
}

// measure connects, warms up, measures until the window's end or that of ctx, and waits for the replies on their way.
func measure(ctx context.Context, cfg *config, progress io.Writer) (*result, error) {
	l := &load{
		cfg: cfg, packets: newPackets(cfg.size), epoch: time.Now(), progress: progress,
		bots: make([]*bot, cfg.clients), nobody: make(chan struct{}), done: make(chan struct{}),
	}
	l.end.Store(math.MaxInt64)
	defer l.close()
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	l.tally = newTally(l.now() + int64(cfg.warmup))
	l.start()
	l.wait(ctx, "warm-up", cfg.warmup)
	before := l.look()
	if l.now() >= l.tally.begin() {
		l.wait(ctx, "window", cfg.duration)
	}
	after := l.look()
	l.drain(after.at)
	return newResult(l, before, after, ctx.Err() != nil), nil
}

// now is the time on the run's clock, in nanoseconds; never 0.
func (l *load) now() int64 { return int64(time.Since(l.epoch)) + 1 }

// stopped reports whether a closed loop is over.
func (l *load) stopped() bool { return l.end.Load() != math.MaxInt64 }

func (l *load) say(format string, args ...any) { fmt.Fprintf(l.progress, format+"\n", args...) }

func (l *load) connect(ctx context.Context) error {
	d, err := newDialer(l.cfg)
	if err != nil {
		return err
	}
	l.say("connecting %d clients to %s", l.cfg.clients, l.cfg.addr)
	err = d.dialAll(ctx, func(i int, sock *socket) {
		l.bots[i] = &bot{id: uint32(i), sock: sock, load: l}
		l.alive.Add(1)
	})
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted when %d of %d clients were connected", l.alive.Load(), l.cfg.clients)
	}
	return err
}

// start makes the clients read, and packets go out.
func (l *load) start() {
	for i, b := range l.bots {
		b.tally = l.tally.of(i)
		l.running.Go(b.read)
	}
	l.running.Go(l.sweep)
	if !l.cfg.closedLoop() {
		l.pacers = newPacers(l)
		for _, p := range l.pacers {
			l.pacing.Go(p.run)
		}
		return
	}
	for _, b := range l.bots {
		b.sendNext()
	}
}

// lose notes that a client is no longer connected.
func (l *load) lose() {
	if l.alive.Add(-1) == 0 {
		close(l.nobody)
	}
}

// wait tells how things go until d is over, ctx is done, or nobody is left.
func (l *load) wait(ctx context.Context, phase string, d time.Duration) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	end := time.NewTimer(d)
	defer end.Stop()
	last := l.tally.sum().arrived
	for began, then := time.Now(), time.Now(); ; {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-l.nobody:
			l.say("no client is connected any more")
			return
		case <-tick.C:
		}
		counts, now := l.tally.sum(), time.Now()
		l.say("%-7s %4.0f s  %9.0f messages/s  %s", phase, now.Sub(began).Seconds(), float64(counts.arrived-last)/now.Sub(then).Seconds(), counts.faults())
		then, last = now, counts.arrived
	}
}

// sight is how things are at one moment.
type sight struct {
	at     int64 // on the run's clock
	counts counts
	usage  []usage // of the processes asked for, and of this one
}

func (l *load) look() sight {
	return sight{at: l.now(), counts: l.tally.sum(), usage: readUsages(append(slices.Clone(l.cfg.pids), os.Getpid()))}
}

// drain sends nothing that is due at the end or later, and waits until each packet has its reply or is lost.
func (l *load) drain(end int64) {
	l.end.Store(end)
	l.pacing.Wait()
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	for l.waits() {
		<-tick.C
	}
}

func (l *load) waits() bool {
	for _, b := range l.bots {
		if b.waits() {
			return true
		}
	}
	return false
}

// sweep gives up what has waited for too long.
func (l *load) sweep() {
	tick := time.NewTicker(min(l.cfg.timeout/4, sweepInterval))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.done:
			return
		}
		before := l.now() - int64(l.cfg.timeout)
		for _, b := range l.bots {
			b.giveUp(before)
		}
	}
}

func (l *load) close() {
	l.closing.Store(true)
	close(l.done)
	for _, b := range l.bots {
		if b != nil { // it was connected
			b.sock.close()
		}
	}
	l.running.Wait()
}
