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
	parser      wsframe.Parser
	opts        *options
	head        []byte
	params      url.Values
	subprotocol string
	control     func(kind int, payload []byte) // puts a ping or a pong into the queue

	heard  time.Time // when anything whole was received last
	pinged bool      // since then
	answer int       // code of the peer's close frame, 0: none has come
}

// newWSProtocol returns the end of a connection that was just upgraded. Where links may come in, text needn't be UTF-8 until it is
// known who is there: v0.5.5 sends binary headers in text messages.
func newWSProtocol(head []byte, query url.Values, subprotocol string, opts *options) wsProtocol {
	return wsProtocol{
		opts: opts, head: head, params: query, subprotocol: subprotocol, heard: time.Now(),
		parser: wsframe.Parser{Masked: true, Limit: opts.readLimit(), Loose: opts.headroom > 0 || opts.firstPacket > 0},
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
		w.heard, w.pinged = time.Now(), false
	}
	switch m.Kind {
	case frame.KindPing:
		w.control(frame.KindPong, m.Data)
	case frame.KindText, frame.KindBinary:
		if len(w.opts.wsTypes) > 0 && !slices.Contains(w.opts.wsTypes, m.Kind) {
			return noPacket, nil, 0, ErrMessageType
		}
		return m.Kind, m.Data, size, nil
	}
	return noPacket, nil, size, nil
}

// silence pings a client that has been silent for half of what it may be, and returns when to look again, or that it has been
// silent for too long.
func (w *wsProtocol) silence(now time.Time) (again time.Time, err error) {
	deadline := w.opts.wsDeadline
	switch silent := now.Sub(w.heard); {
	case silent >= deadline:
		return again, fmt.Errorf("%w: %v", wsio.ErrReadTimeout, deadline)
	case silent < deadline/2:
		return w.heard.Add(deadline / 2), nil
	}
	if !w.pinged {
		w.pinged = true
		w.control(frame.KindPing, nil)
	}
	return w.heard.Add(deadline), nil
}

// explain turns errors into those that name what happened: gorilla's for close frames, as v0.5.5's users know them.
func (w *wsProtocol) explain(err error) error {
	if err == nil {
		return nil
	}
	var closed *wsframe.CloseError // not before: it is on the heap
	switch {
	case errors.As(err, &closed):
		w.answer = closed.Code
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
	return wsframe.Append(nil, frame.KindClose, wsframe.ClosePayload(w.answer, ""))
}

func (w *wsProtocol) vet(kind int, packet []byte) error {
	w.parser.Loose = false
	return wsframe.CheckText(kind, packet)
}

func (w *wsProtocol) onControl(write func(int, []byte)) { w.control = write }
func (w *wsProtocol) setLimit(n int)                    { w.parser.Limit = n }
func (w *wsProtocol) requestHead() []byte               { return w.head }
func (w *wsProtocol) Subprotocol() string               { return w.subprotocol }

// query returns the URL's parameters, once: nobody else holds on to them.
func (w *wsProtocol) query() url.Values {
	params := w.params
	w.params = nil
	return params
}

// frameKey is what a shared payload's frames are kept under: their type.
type frameKey int

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
