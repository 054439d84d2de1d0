package gatewaytest

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// Kind is what an Event tells.
type Kind string

// The kinds of events.
const (
	Opened    Kind = "opened"    // a player is there; at an endpoint that it was moved to, Packet is the state that came with it
	Closed    Kind = "closed"    // it has left, or was closed
	Received  Kind = "received"  // a packet came: from a player, or for one
	Delivered Kind = "delivered" // an endpoint's packet for a player came to the gateway
	Written   Kind = "written"   // the gateway writes to a player: what a handler did, or an endpoint's cast
	Failed    Kind = "failed"    // a packet could not be forwarded, or sent
	LinkUp    Kind = "link up"   // the gateway has a link more to an endpoint
	LinkDown  Kind = "link down" // and one less
)

// Event is one thing that has happened.
type Event struct {
	Kind     Kind
	Player   string // the address that it comes from, "" where that is clear
	Endpoint string // the address of an endpoint, "" where there is none
	Packet   []byte // nil: none
	Err      error  // why, nil: in order
}

// String returns the event in one line: kind, player, endpoint, packet in quotes, and behind a colon the error, as far as there are
// such:
//
//	delivered 198.18.0.1:1024 game-1 "welcome"
//	closed 198.18.0.1:1024
//	closed: close 4009: cheater
func (e Event) String() string {
	words := []string{string(e.Kind)}
	for _, word := range []string{e.Player, e.Endpoint} {
		if word != "" {
			words = append(words, word)
		}
	}
	if e.Packet != nil {
		words = append(words, fmt.Sprintf("%q", e.Packet))
	}
	line := strings.Join(words, " ")
	if e.Err != nil {
		line += ": " + e.Err.Error()
	}
	return line
}

// Recorder keeps what has happened at one place, a gateway, a fake endpoint or a player, in the order in which it happened there. What
// happens at the same time, to several players for instance, comes in any order.
type Recorder struct {
	t   testing.TB // static, as is the next
	who string

	mu      sync.Mutex // guards the rest
	events  []Event
	waited  []bool        // which of them somebody has waited for
	changed chan struct{} // closed, and replaced, when something has happened
}

func newRecorder(t testing.TB, who string) *Recorder {
	return &Recorder{t: t, who: who, changed: make(chan struct{})}
}

// NewRecorder records what happens at gw from now on: players opened and closed, with why, their packets before gw's handlers get them
// (Received), those that endpoints send for them, before the handlers too (Delivered), what is written to players in the end (Written),
// Forwards that fail, links. Players go by the address that they come from.
func NewRecorder(t testing.TB, gw *gateway.Gateway) *Recorder {
	r := newRecorder(t, "the gateway's recorder")
	for _, srv := range gw.Servers() {
		r.recordServer(srv)
	}
	gw.RegEndpointConnectReceivePacketEventHandle(func(_ *gateway.Gateway, e *gateway.Endpoint, conn *server.Conn, packet []byte) {
		r.add(Event{Kind: Delivered, Player: addressOf(conn), Endpoint: e.GetAddress(), Packet: copyOf(packet)})
	}, math.MinInt)
	gw.RegForwardFailedEventHandle(func(_ *gateway.Gateway, e *gateway.Endpoint, conn *server.Conn, packet []byte, err error) {
		r.add(Event{Kind: Failed, Player: addressOf(conn), Endpoint: e.GetAddress(), Packet: copyOf(packet), Err: err})
	}, math.MinInt)
	gw.RegEndpointConnectOpenedEventHandle(func(_ *gateway.Gateway, e *gateway.Endpoint) {
		r.add(Event{Kind: LinkUp, Endpoint: e.GetAddress()})
	}, math.MinInt)
	gw.RegEndpointConnectClosedEventHandle(func(_ *gateway.Gateway, e *gateway.Endpoint) {
		r.add(Event{Kind: LinkDown, Endpoint: e.GetAddress()})
	}, math.MinInt)
	return r
}

// recordServer records what happens at one of a gateway's servers.
func (r *Recorder) recordServer(srv *server.Server) {
	srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
		r.add(Event{Kind: Opened, Player: addressOf(conn)})
	}, math.MinInt)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		r.add(Event{Kind: Received, Player: addressOf(conn), Packet: copyOf(packet)})
	}, math.MinInt)
	srv.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, conn *server.Conn, packet []byte) []byte {
		r.add(Event{Kind: Written, Player: addressOf(conn), Packet: copyOf(packet)})
		return packet
	}, math.MaxInt)
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) {
		r.add(Event{Kind: Closed, Player: addressOf(conn), Err: reasonOf(err)})
	}, math.MinInt)
}

// addressOf is what a player goes by.
func addressOf(conn *server.Conn) string {
	if addr := conn.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return conn.GetID()
}

// copyOf returns what an Event may keep of a packet: never nil, for an empty packet is a packet.
func copyOf(packet []byte) []byte { return append([]byte{}, packet...) }

// reasonOf is a closed handler's argument.
func reasonOf(err any) error {
	reason, _ := err.(error)
	return reason
}

func (r *Recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.waited = append(r.events, e), append(r.waited, false)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Events returns what has happened until now, in a slice of the caller's own; the packets in it must not be changed.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Event(nil), r.events...)
}

// Lines returns what has happened until now, each as Event.String has it: something to compare with what should have happened.
func (r *Recorder) Lines() []string {
	lines := []string{}
	for _, e := range r.Events() {
		lines = append(lines, e.String())
	}
	return lines
}

// Wait blocks until an event has happened whose String is line, and returns it. It may have happened before; but each event is waited
// for once only, by whichever method: the second Wait for the same line wants it to have happened twice.
func (r *Recorder) Wait(line string) Event {
	r.t.Helper()
	return r.await(line, func(e Event) verdict {
		if e.String() == line {
			return found
		}
		return other
	})
}

// verdict is what an event is to somebody who waits.
type verdict int

const (
	other verdict = iota // not what he waits for
	found
	wrong // what he waits for won't come any more
)

// await blocks until the first event of those that nobody has waited for is found by judge, and takes it.
func (r *Recorder) await(what string, judge func(Event) verdict) Event {
	r.t.Helper()
	limit := time.NewTimer(Patience)
	defer limit.Stop()
	for {
		e, v, changed := r.take(judge)
		switch v {
		case found:
			return e
		case wrong:
			r.t.Fatalf("gatewaytest: %s expects %s, and there is\n\t%s\n%s", r.who, what, e, r.describe())
		}
		select {
		case <-changed:
		case <-limit.C:
			r.t.Fatalf("gatewaytest: %s has waited %v for %s\n%s", r.who, Patience, what, r.describe())
		}
	}
}

// take returns the first event that is not other, and what tells when there may be another one.
func (r *Recorder) take(judge func(Event) verdict) (Event, verdict, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.events {
		if r.waited[i] {
			continue
		}
		if v := judge(e); v != other {
			r.waited[i] = v == found
			return e, v, nil
		}
	}
	return Event{}, other, r.changed
}

// described is how many events a failure tells of.
const described = 20

// describe tells what has happened, for somebody who has expected something else.
func (r *Recorder) describe() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return "nothing has happened"
	}
	var b bytes.Buffer
	b.WriteString("this has happened (+ is what was waited for already):")
	first := max(len(r.events)-described, 0)
	if first > 0 {
		fmt.Fprintf(&b, "\n\t... %d more", first)
	}
	for i, e := range r.events[first:] {
		mark := ' '
		if r.waited[first+i] {
			mark = '+'
		}
		fmt.Fprintf(&b, "\n\t%c %s", mark, e)
	}
	return b.String()
}

// next blocks until there is a packet, and takes it.
func (r *Recorder) next() []byte {
	r.t.Helper()
	return r.await("a packet", func(e Event) verdict { return judgePacket(e, "") }).Packet
}

// expect blocks until there is a packet, and fails the test if it is another one. from is a player's address, "" at the player itself.
func (r *Recorder) expect(from string, packet []byte) {
	r.t.Helper()
	want := Event{Kind: Received, Player: from, Packet: copyOf(packet)}
	r.await(want.String(), func(e Event) verdict {
		v := judgePacket(e, from)
		if v == found && !bytes.Equal(e.Packet, packet) {
			return wrong
		}
		return v
	})
}

// judgePacket finds packets. At a player none comes after its end; at an endpoint it may come back.
func judgePacket(e Event, from string) verdict {
	switch {
	case e.Kind == Received && e.Player == from:
		return found
	case e.Kind == Closed && from == "":
		return wrong
	}
	return other
}
