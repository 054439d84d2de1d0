package client

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

const (
	wsSilence   = 2 * silenceBeforePing // of a server, until it is dead
	maxControls = 1 << 10               // pings and pongs on their way out; a server that floods us, and doesn't read, gets no more
)

// wsProtocol is a client's end of a WebSocket connection, whoever reads and writes its bytes.
type wsProtocol struct {
	wsio.Protocol                           // owned by who reads, as is the next
	look          time.Duration             // when to ask about silence again
	report        func(delay time.Duration) // of a ping that was answered; static, as are the next two
	sock          *socket
	start         time.Time

	pinged   atomic.Int64 // when the outstanding ping was written, nanoseconds since start; 0: none is outstanding
	controls atomic.Int32 // on their way out
	over     atomic.Bool  // reading has ended

	style frame.Style  // static after begin
	keys  wsframe.Keys // owned by who writes, as are the next two
	left  bool         // a close frame was made: nothing comes behind it
	gone  bool         // the kernel took that of a packet; on loops only
}

// begin makes the connection, which was just upgraded, one end of s.
func (w *wsProtocol) begin(s *socket) {
	w.sock, w.start, w.keys = s, time.Now(), wsframe.NewKeys()
	w.style = frame.Style{Encode: w.encode}
	// Text needn't be UTF-8: v0.5.5 sends binary headers in text messages.
	w.Parser = wsframe.Parser{Limit: s.opts.maxPacket + frame.WriteHeadroom, Loose: true}
	w.Begin((*wsSide)(w))
}

// wsSide is a connection as its protocol sees it.
type wsSide wsProtocol

var _ wsio.Side = (*wsSide)(nil)

// Now is wsio.Side's. It is never 0.
func (s *wsSide) Now() time.Duration { return time.Since(s.start) + 1 }

// Deadline is wsio.Side's.
func (s *wsSide) Deadline() time.Duration { return wsSilence }

// Heard is wsio.Side's.
func (s *wsSide) Heard(kind int) error {
	if kind == frame.KindPong {
		if sent := s.pinged.Swap(0); sent > 0 && s.report != nil {
			s.report(s.Now() - time.Duration(sent))
		}
	}
	return nil
}

// Control is wsio.Side's. It doesn't mind a full queue: the server lives or dies by pings, and by pongs so do we.
func (s *wsSide) Control(kind int, payload []byte) {
	if s.controls.Add(1) > maxControls {
		s.controls.Add(-1)
		return
	}
	written := func(error) { s.controls.Add(-1) }
	switch err := s.sock.owner.queue.Force(frame.NewPacket(kind, append([]byte(nil), payload...), written)); {
	case err != nil:
		written(err)
	case s.sock.onLoop != nil:
		s.sock.onLoop.Wake()
	}
}

var errClosing = fmt.Errorf("%w: a close frame ends the WebSocket", ErrClosed)

// encode is a frame.Encoder. It is for who writes.
func (w *wsProtocol) encode(dst []byte, p *Packet) ([]byte, error) {
	kind, err := wsio.KindOf(p)
	switch {
	case err != nil:
		return dst, err
	case w.left, kind < frame.KindClose && w.over.Load(): // nobody would read it, and another link can take it
		return dst, errClosing
	case kind == frame.KindPing:
		w.pinged.CompareAndSwap(0, int64((*wsSide)(w).Now())) // as late as can be: the queue's time isn't the server's
	case kind == frame.KindClose:
		w.left = true
	}
	return wsframe.AppendMasked(dst, kind, p.Bytes(), w.keys.Next()), nil
}

// lastPayload is that of the close frame for a connection of which reading ended by err, or that ends from this side where err is
// nil; fault: the server broke a rule. It reports whether there is to be one. Where reading has ended, only control frames that are
// queued are still written.
func (w *wsProtocol) lastPayload(err error) (payload []byte, fault, ok bool) {
	if err == nil {
		return wsio.ClosePayload(0, ""), false, true
	}
	w.over.Store(true)
	if code := wsio.CodeOf(err); code != 0 {
		return wsio.ClosePayload(code, err.Error()), true, true
	}
	payload, ok = w.Answer()
	return payload, false, ok
}

// closeFrame is protocol's, and for who writes.
func (w *wsProtocol) closeFrame(payload []byte) []byte {
	if w.left {
		return nil
	}
	w.left = true
	return wsframe.AppendMasked(nil, frame.KindClose, payload, w.keys.Next())
}

// took is protocol's. A close frame of which the kernel took nothing is made again, behind what comes before it.
func (w *wsProtocol) took(packets []*Packet) {
	if w.left && !w.gone {
		w.gone = slices.ContainsFunc(packets, func(p *Packet) bool { return p.Type() == frame.KindClose && !p.Refused() })
		w.left = w.gone
	}
}

func (w *wsProtocol) cut(buf []byte) (int, []byte, int, error) { return w.Cut(buf) }
func (w *wsProtocol) explain(err error) error                  { return w.Explain(err) }

func (w *wsProtocol) overdue(time.Time, *frame.Pieces) error {
	now := (*wsSide)(w).Now()
	if now < w.look {
		return nil
	}
	wait, err := w.Silence()
	w.look = now + wait
	return err
}

func (w *wsProtocol) onPong(report func(time.Duration)) { w.report = report }
