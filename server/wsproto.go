package server

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/internal/wsio"
)

// wsProtocol is one end of a WebSocket connection, whoever reads and writes its bytes. It belongs to the goroutine that reads.
type wsProtocol struct {
	parser  wsframe.Parser
	c       *connection // set before anything is read
	request *upgrade    // nil once nobody asks for it any more

	heard  time.Duration // when anything whole was received last, since the server was made
	answer int16         // code of the peer's close frame, 0: none has come
	pinged bool          // since the last time that anything was heard
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
	return wsProtocol{
		request: request,
		parser:  wsframe.Parser{Masked: true, Limit: opts.readLimit(), Loose: opts.headroom > 0 || opts.firstPacket > 0},
	}
}

// noPacket is the kind of what is not for handlers.
const noPacket = -1

// cut takes the next packet, or what else there is, from the start of buf, of which it takes size bytes: 0 while there is nothing
// whole. The packet may be a part of buf.
func (w *wsProtocol) cut(buf []byte) (kind int, packet []byte, size int, err error) {
	m, size, err := w.parser.Next(buf)
	if err != nil || size == 0 {
		return noPacket, nil, 0, w.explain(err)
	}
	if m.Kind != 0 && !w.parser.Unfinished() { // control frames between fragments prove nothing
		w.heard, w.pinged = time.Since(w.c.srv.made), false
	}
	switch m.Kind {
	case frame.KindPing:
		w.c.writeControl(frame.KindPong, m.Data)
	case frame.KindText, frame.KindBinary:
		if len(w.c.srv.opts.wsTypes) > 0 && !slices.Contains(w.c.srv.opts.wsTypes, m.Kind) {
			return noPacket, nil, 0, ErrMessageType
		}
		return m.Kind, m.Data, size, nil
	}
	return noPacket, nil, size, nil
}

// silence pings a client that has been silent for half of what it may be, and returns when to look again, or that it has been
// silent for too long. One that was not pinged in time, because a handler has kept its goroutine or loop, has the other half still.
func (w *wsProtocol) silence(now time.Time) (again time.Time, err error) {
	deadline, heard := w.c.srv.opts.wsDeadline, w.c.srv.made.Add(w.heard)
	silent := now.Sub(heard)
	switch {
	case deadline <= 0:
		return now.Add(time.Hour), nil
	case silent < deadline/2:
		return heard.Add(deadline / 2), nil
	case silent >= deadline && w.pinged:
		return again, fmt.Errorf("%w: %v", wsio.ErrReadTimeout, deadline)
	case !w.pinged:
		w.pinged = true
		w.c.writeControl(frame.KindPing, nil)
		return now.Add(deadline - deadline/2), nil
	}
	return heard.Add(deadline), nil
}

// packets: silence bounds those that are not finished too.
func (w *wsProtocol) packets() bool { return false }

// explain turns errors into those that name what happened: gorilla's for close frames, as v0.5.5's users know them.
func (w *wsProtocol) explain(err error) error {
	if err == nil {
		return nil
	}
	var closed *wsframe.CloseError // not before: it is on the heap
	switch {
	case errors.As(err, &closed):
		w.answer = int16(closed.Code)
		err = &websocket.CloseError{Code: closed.Code, Text: closed.Reason}
		if closed.Code == codeNormal || closed.Code == codeGoingAway || closed.Code == wsframe.CodeNoStatus {
			return fmt.Errorf("%w: %w", io.EOF, err)
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}
	}
	return err
}

// farewell is the close frame with code (0: a normal end) and reason.
func (w *wsProtocol) farewell(code int, reason string) []byte {
	if code == 0 {
		code = codeNormal
	}
	return wsframe.Append(nil, frame.KindClose, wsframe.ClosePayload(code, reason))
}

// reply is the close frame that answers the client's, nil if none has come.
func (w *wsProtocol) reply() []byte {
	if w.answer == 0 {
		return nil
	}
	return wsframe.Append(nil, frame.KindClose, wsframe.ClosePayload(int(w.answer), ""))
}

func (w *wsProtocol) vet(kind int, packet []byte) error {
	w.parser.Loose = false
	return wsframe.CheckText(kind, packet)
}

func (w *wsProtocol) onControl(c *connection) {
	w.c = c
	w.heard = time.Since(c.srv.made)
}

func (w *wsProtocol) setLimit(n int)      { w.parser.Limit = n }
func (w *wsProtocol) requestHead() []byte { return w.request.head }
func (w *wsProtocol) query() url.Values   { return w.request.params }

// Subprotocol returns what was agreed upon.
func (w *wsProtocol) Subprotocol() string { return w.request.subprotocol }

func (w *wsProtocol) forget() { w.request = nil }

// frameKey is what a shared payload's frames are kept under: their type.
type frameKey int

// frames is the style of WebSocket connections.
var frames = frame.Style{Encode: encodeFrame}

// encodeFrame makes a frame of a packet. Those of no type go out as binary messages.
func encodeFrame(dst []byte, p *Packet) ([]byte, error) {
	kind := p.Type()
	switch kind {
	case frame.KindNone:
		kind = frame.KindBinary
	case frame.KindText, frame.KindBinary:
	case frame.KindClose, frame.KindPing, frame.KindPong:
		if err := frame.CheckSize(len(p.Bytes()), wsframe.MaxControlSize); err != nil {
			return dst, err
		}
	default:
		return dst, fmt.Errorf("websocket: no message type %d", kind)
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
