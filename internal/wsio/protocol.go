package wsio

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
)

// Side is who has a Protocol: a server's connection or a client's.
type Side interface {
	// Now is the time on a clock that only goes forward.
	Now() time.Duration
	// Deadline is how long the peer may be silent; 0 or less: for ever.
	Deadline() time.Duration
	// Heard is told the kind of each message, ping and pong. An error ends the connection.
	Heard(kind int) error
	// Control queues a ping or a pong. payload is the caller's again when it returns.
	Control(kind int, payload []byte)
}

// Protocol is one end of a WebSocket connection, whoever reads and writes its bytes, a goroutine or an event loop. It belongs to
// whoever reads, and doesn't start before Begin.
type Protocol struct {
	Parser wsframe.Parser

	side   Side
	heard  time.Duration // when anything whole was received last
	answer int16         // code of the peer's close frame, 0: none has come
	pinged bool          // since the last time that anything was heard
}

// Begin makes p side's.
func (p *Protocol) Begin(side Side) { p.side, p.heard = side, side.Now() }

// Cut takes the next packet, or what else there is, from the start of buf, of which it takes size bytes: 0 while there is nothing
// whole. The packet may be a part of buf. kind is frame.NoPacket where what was taken is not for handlers.
func (p *Protocol) Cut(buf []byte) (kind int, packet []byte, size int, err error) {
	m, size, err := p.Parser.Next(buf)
	if err != nil || size == 0 {
		return frame.NoPacket, nil, 0, p.Explain(err)
	}
	if m.Kind == 0 {
		return frame.NoPacket, nil, size, nil
	}
	if !p.Parser.Unfinished() { // control frames between fragments prove nothing
		p.heard, p.pinged = p.side.Now(), false
	}
	if err := p.side.Heard(m.Kind); err != nil {
		return frame.NoPacket, nil, 0, err
	}
	switch m.Kind {
	case frame.KindText, frame.KindBinary:
		return m.Kind, m.Data, size, nil
	case frame.KindPing:
		p.side.Control(frame.KindPong, m.Data)
	}
	return frame.NoPacket, nil, size, nil
}

// Silence pings a peer that has been silent for half of what it may be, and returns how long to wait before it is asked again, or
// that the peer has been silent for too long. One that was not pinged in time, because a handler has kept its goroutine or loop,
// has the other half still.
func (p *Protocol) Silence() (wait time.Duration, err error) {
	deadline, silent := p.side.Deadline(), p.side.Now()-p.heard
	switch {
	case deadline <= 0:
		return time.Hour, nil
	case silent < deadline/2:
		return deadline/2 - silent, nil
	case silent >= deadline && p.pinged:
		return 0, fmt.Errorf("%w: %v", ErrReadTimeout, deadline)
	case !p.pinged:
		p.pinged = true
		p.side.Control(frame.KindPing, nil)
		return deadline - deadline/2, nil
	}
	return deadline - silent, nil
}

// Explain turns errors into those that name what happened: gorilla's for close frames, as v0.5.5's users know them.
func (p *Protocol) Explain(err error) error {
	if err == nil {
		return nil
	}
	var closed *wsframe.CloseError // not before: it is on the heap
	switch {
	case errors.As(err, &closed):
		p.answer = int16(closed.Code)
		return explainClose(&websocket.CloseError{Code: closed.Code, Text: closed.Reason})
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}
	}
	return err
}

// explainClose makes io.EOF of a close frame by which the connection ends in order.
func explainClose(closed *websocket.CloseError) error {
	switch closed.Code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived:
		return fmt.Errorf("%w: %w", io.EOF, closed)
	}
	return closed
}

// Answer is the payload of the close frame that answers the peer's. It reports whether one has come.
func (p *Protocol) Answer() (payload []byte, came bool) {
	return wsframe.ClosePayload(int(p.answer), ""), p.answer != 0
}

// ClosePayload is that of a close frame with code (0: a normal end) and reason.
func ClosePayload(code int, reason string) []byte {
	if code == 0 {
		code = wsframe.CodeNormal
	}
	return wsframe.ClosePayload(code, reason)
}

// CodeOf returns the code that a peer is closed with for err, 0 where it broke no rule.
func CodeOf(err error) int {
	if errors.Is(err, frame.ErrPacketTooLarge) {
		return wsframe.CodeTooBig
	}
	return wsframe.CodeOf(err)
}

// KindOf returns the opcode of a packet. Those of no type go out as binary messages. An error is why it can't be expressed.
func KindOf(p *frame.Packet) (int, error) {
	switch kind := p.Type(); kind {
	case frame.KindNone:
		return frame.KindBinary, nil
	case frame.KindText, frame.KindBinary:
		return kind, nil
	case frame.KindClose, frame.KindPing, frame.KindPong:
		return kind, frame.CheckSize(len(p.Bytes()), wsframe.MaxControlSize)
	default:
		return kind, fmt.Errorf("websocket: no message type %d", kind)
	}
}
