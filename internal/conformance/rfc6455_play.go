package conformance

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// RFC6455 plays the table against a server with opts, each case on connections of its own: in one write, and in small ones with
// a close frame behind what fails the connection.
func RFC6455(t *testing.T, opts ...server.Option) {
	r := newRecorder(t, opts)
	playAll(t, Cases(), wsWire{client: true}, r.dial)
}

// playAll plays cases on connections that connect makes, and on which w is spoken.
func playAll(t *testing.T, cases []Case, w wsWire, connect func(t *testing.T) (*Peer, *record)) {
	const atOnce = 64
	slots := make(chan struct{}, atOnce)
	type run struct {
		name    string
		outcome chan error
	}
	var runs []run
	start := func(name string, c Case, writes [][]byte) {
		outcome := make(chan error, 1)
		runs = append(runs, run{name, outcome})
		slots <- struct{}{}
		p, rec := connect(t)
		go func() {
			defer func() { <-slots }()
			outcome <- c.play(p, rec, writes)
		}()
	}
	for _, c := range cases {
		start(c.Name, c, [][]byte{c.Sent})
		small := smallWrites(c.Sent)
		if c.Close != 0 && !c.Answer {
			small = append(small, w.frame(fin|Bye, closeFrame(fence, "")))
		}
		start(c.Name+", in small writes", c, small)
	}
	for _, run := range runs {
		t.Run(run.name, func(t *testing.T) { assert.NoError(t, await(t, run.outcome, "outcome")) })
	}
}

// smallWrites cuts b at random: mostly within frames' heads where it is short, and in about 50 where it is long.
func smallWrites(b []byte) [][]byte {
	random := rand.New(rand.NewPCG(1, uint64(len(b))))
	var list [][]byte
	for len(b) > 0 {
		n := min(1+random.IntN(max(3, len(b)/25)), len(b))
		list, b = append(list, b[:n]), b[n:]
	}
	return list
}

// recorder is a server whose handlers write down what they get, for each connection by its number.
type recorder struct {
	addr string

	mu      sync.Mutex // guards the rest
	records map[string]*record
}

// record is of one connection. messages belong to the handlers until closed has got what the closed event did.
type record struct {
	messages []Message
	closed   chan any
}

func newRecorder(t *testing.T, opts []server.Option) *recorder {
	r := &recorder{records: map[string]*record{}}
	srv := server.New(WebSocket, append([]server.Option{server.WithLogger(quiet), server.WithMaxPacketSize(CaseLimit)}, opts...)...)
	srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, data []byte) {
		rec := r.of(conn)
		rec.messages = append(rec.messages, Message{conn.GetWST(), string(data)})
	})
	srv.RegConnectionClosedEvent(func(_ *server.Server, conn *server.Conn, err any) { r.of(conn).closed <- err })
	r.addr = gwtest.Serve(t, srv, address(WebSocket, ""))
	return r
}

func (r *recorder) of(conn *server.Conn) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[conn.GetData("case").(string)]
}

// dial returns a connection, and where its handlers write.
func (r *recorder) dial(t *testing.T) (*Peer, *record) {
	rec := &record{closed: make(chan any, 2)}
	r.mu.Lock()
	number := strconv.Itoa(len(r.records))
	r.records[number] = rec
	r.mu.Unlock()
	return Dial(t, WebSocket, r.addr, "/?case="+number), rec
}

// caseTime bounds each wait of a case. Nothing waits for all of it unless it fails.
const caseTime = 10 * time.Second

// fence is the code by which the sender closes a connection that should have gone on. No case has it.
const fence = 4321

// play is the sender of a case, and returns what was not as it has to be.
func (c Case) play(p *Peer, rec *record, writes [][]byte) error {
	defer p.Cut()
	code := c.Close
	if code == 0 && !c.Partial {
		code, writes = fence, append(writes, p.Frame(fin|Bye, closeFrame(fence, "")))
	}
	written := make(chan error, 1)
	go func() { written <- sendAll(p.Conn, writes, c.Partial) }()
	pongs, got, err := p.collect(c.Close != 0 && !c.Answer)
	if err == nil && got != code {
		err = fmt.Errorf("close frame %d, want %d", got, code)
	}
	p.Cut()
	if writeErr := <-written; c.Close == 0 && err == nil {
		err = writeErr
	}
	return errors.Join(err, difference("pongs", only(c.Received, Ping), pongs), c.check(rec))
}

// check compares what the handlers got.
func (c Case) check(rec *record) error {
	var end any
	select {
	case end = <-rec.closed:
	case <-time.After(caseTime):
		return errors.New("no closed event")
	}
	err := difference("messages", only(c.Received, Text, Binary), rec.messages)
	orderly := c.Answer && (c.Close == NoStatus || c.Close == 1000 || c.Close == 1001)
	if orderly != (end == nil) {
		err = errors.Join(err, fmt.Errorf("the closed event got %v", end))
	}
	return err
}

func difference(what string, want, got []Message) error {
	if d := Difference(want, got); d != "" {
		return fmt.Errorf("%s: %s", what, d)
	}
	return nil
}

// sendAll writes, and then ends the stream where that is asked for.
func sendAll(conn net.Conn, writes [][]byte, end bool) error {
	for _, b := range writes {
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	if end {
		return conn.(interface{ CloseWrite() error }).CloseWrite()
	}
	return nil
}

// collect reads until the other end closes the socket, and returns the pongs, as the pings they answer, and the code of
// the close frame, 0 if there was none. After it the client ends the stream if it is to follow, and else waits for the server.
func (p *Peer) collect(follow bool) (pongs []Message, code int, err error) {
	if err := p.Conn.SetReadDeadline(time.Now().Add(caseTime)); err != nil {
		return nil, 0, err
	}
	for {
		first, data, err := p.wire.(wsWire).readFrame(p.r)
		var timeout net.Error
		switch {
		case err != nil && code == 0 && !errors.Is(err, io.EOF):
			return pongs, code, err
		case errors.As(err, &timeout) && timeout.Timeout():
			return pongs, code, fmt.Errorf("the connection doesn't end: %w", err)
		case err != nil: // after a close frame a reset is an end too: the server needn't read what is behind the client's
			return pongs, code, nil
		case code != 0:
			return pongs, code, fmt.Errorf("a frame after the close frame: %#02x", first)
		case first == fin|Pong:
			pongs = append(pongs, ping(string(data)))
		case first == fin|Bye && len(data) != 1 && len(data) <= 125 && utf8.Valid(data[min(len(data), 2):]):
			code = farewell(data).(*Farewell).Code
			if follow {
				// Not if it has ended already.
				_ = p.Conn.(interface{ CloseWrite() error }).CloseWrite()
			}
		default:
			return pongs, code, fmt.Errorf("a frame that nothing asked for: %#02x, %d bytes", first, len(data))
		}
	}
}

// only returns those of list that have one of kinds.
func only(list []Message, kinds ...int) []Message {
	var some []Message
	for _, m := range list {
		for _, kind := range kinds {
			if m.Kind == kind {
				some = append(some, m)
			}
		}
	}
	return some
}

// Difference tells where got is not what is wanted, "" if it is.
func Difference(want, got []Message) string {
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			return fmt.Sprintf("number %d is %s, want %s", i, nth(got, i), nth(want, i))
		}
	}
	return ""
}

func nth(list []Message, i int) string {
	if i >= len(list) {
		return "missing"
	}
	m := list[i]
	return fmt.Sprintf("{kind %d, %d bytes: %.60q}", m.Kind, len(m.Data), m.Data)
}
