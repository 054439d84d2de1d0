package server

import (
	"net/url"
	"slices"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsProtocol is a server's end of a WebSocket connection, whoever reads and writes its bytes. It belongs to the goroutine that reads.
type wsProtocol struct {
	wsio.Protocol
	request *upgrade // nil once nobody asks for it any more
}

// upgrade is what is known of a WebSocket connection before its first frame.
type upgrade struct {
	head        []byte
	params      url.Values
	subprotocol string
}

// newWSProtocol returns the end of a connection that was just upgraded. Where links may come in, text needn't be UTF-8 until it is
// known who is there: v0.5.5 sends binary headers in text messages.
func newWSProtocol(request *upgrade, opts *options) wsProtocol {
	w := wsProtocol{request: request}
	w.Parser = wsframe.Parser{Masked: true, Limit: opts.readLimit(), Loose: opts.headroom > 0 || opts.firstPacket > 0}
	return w
}

// wsSide is a connection as its protocol sees it.
type wsSide connection

var _ wsio.Side = (*wsSide)(nil)

// Now is wsio.Side's.
func (s *wsSide) Now() time.Duration { return time.Since(s.srv.made) }

// Deadline is wsio.Side's.
func (s *wsSide) Deadline() time.Duration { return s.srv.opts.wsDeadline }

// Heard is wsio.Side's.
func (s *wsSide) Heard(kind int) error {
	if types := s.srv.opts.wsTypes; kind < frame.KindClose && len(types) > 0 && !slices.Contains(types, kind) {
		return ErrMessageType
	}
	if kind > frame.KindClose {
		(*connection)(s).tooFast(0) // which closes it by itself
	}
	return nil
}

// Control is wsio.Side's.
func (s *wsSide) Control(kind int, payload []byte) { (*connection)(s).writeControl(kind, payload) }

func (w *wsProtocol) onControl(c *connection) { w.Begin((*wsSide)(c)) }

func (w *wsProtocol) cut(buf []byte) (int, []byte, int, error) { return w.Cut(buf) }
func (w *wsProtocol) silence() (time.Duration, error)          { return w.Silence() }
func (w *wsProtocol) explain(err error) error                  { return w.Explain(err) }

// packets: silence bounds those that are not finished too.
func (w *wsProtocol) packets() bool { return false }

// farewell is the close frame with code (0: a normal end) and reason.
func (w *wsProtocol) farewell(code int, reason string) []byte {
	return wsframe.Append(nil, frame.KindClose, wsio.ClosePayload(code, reason))
}

// reply is the close frame that answers the client's, nil if none has come.
func (w *wsProtocol) reply() []byte {
	payload, came := w.Answer()
	if !came {
		return nil
	}
	return wsframe.Append(nil, frame.KindClose, payload)
}

func (w *wsProtocol) vet(kind int, packet []byte) error {
	w.Parser.Loose = false
	return wsframe.CheckText(kind, packet)
}

func (w *wsProtocol) SetPacketLimit(n int) { w.Parser.Limit = n }
func (w *wsProtocol) requestHead() []byte  { return w.request.head }
func (w *wsProtocol) query() url.Values    { return w.request.params }

// Subprotocol returns what was agreed upon.
func (w *wsProtocol) Subprotocol() string { return w.request.subprotocol }

func (w *wsProtocol) forget() { w.request = nil }

// frameKey is what a shared payload's frames are kept under: their type.
type frameKey int

// frames is the style of WebSocket connections.
var frames = frame.Style{Encode: encodeFrame}

// encodeFrame makes a frame of a packet. Those of no type go out as binary messages.
func encodeFrame(dst []byte, p *Packet) ([]byte, error) {
	kind, err := wsio.KindOf(p)
	if err != nil {
		return dst, err
	}
	shared := p.Shared()
	if shared == nil {
		return wsframe.Append(dst, kind, p.Bytes()), nil
	}
	made, err := shared.Encoded(frameKey(kind), func(payload []byte) (any, error) {
		return wsframe.Append(make([]byte, 0, len(payload)+wsframe.MaxHeaderSize), kind, payload), nil
	})
	if err != nil {
		return dst, err
	}
	return append(dst, made.([]byte)...), nil
}
