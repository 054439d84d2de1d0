package server

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/minotaur-gateway/gateway/internal/hook"
)

// The types of the handlers. Connection handlers run in order for one connection; see the package's documentation for the goroutine.
type (
	// StartBeforeEventHandler runs on the goroutine of Run or Start, before the server listens.
	StartBeforeEventHandler func(srv *Server)
	// StartFinishEventHandler runs on the goroutine of Run or Start, once the server listens.
	StartFinishEventHandler func(srv *Server)
	// MessageReadyEventHandler runs on the goroutine of Run or Start after the StartFinish handlers.
	MessageReadyEventHandler func(srv *Server)
	// StopEventHandler runs on Run's goroutine, or after Start on one of the server's own, when the server stops, before connections are closed.
	StopEventHandler func(srv *Server)
	// ConnectionOpenedEventHandler runs before a connection's first packet.
	ConnectionOpenedEventHandler func(srv *Server, conn *Conn)
	// ConnectionOpenedAfterEventHandler runs after every ConnectionOpenedEventHandler.
	ConnectionOpenedAfterEventHandler func(srv *Server, conn *Conn)
	// ConnectionClosedEventHandler runs once, after a connection's last packet. err is nil after an orderly end from
	// either side, and else what Close was given or what went wrong. Of a client behind a gateway it is nil when the client has
	// left or was moved elsewhere (gateway.WithMoveState's function has run just before), when its gateway shuts down, or was
	// lost for longer than the grace time; what Close or CloseWith was given, nil after Release; ErrGoingAway when this server
	// shuts down; ErrSlowConsumer, ErrMailboxFull or ErrHandlerPanic.
	ConnectionClosedEventHandler func(srv *Server, conn *Conn, err any)
	// ConnectionPacketPreprocessEventHandler runs before the receive handlers. After abort() no later handler sees the packet;
	// after usePacket(p) they see p instead. Both work until the handler returns.
	ConnectionPacketPreprocessEventHandler func(srv *Server, conn *Conn, packet []byte, abort func(), usePacket func(newPacket []byte))
	// ConnectionReceivePacketEventHandler gets a packet, which belongs to it.
	ConnectionReceivePacketEventHandler func(srv *Server, conn *Conn, packet []byte)
	// ConnectionCongestedEventHandler runs when a client's outbound queue has passed three quarters of its bound
	// (congested), and when it is below one quarter again; see Conn.Congested. It may run beside the client's other handlers.
	ConnectionCongestedEventHandler func(srv *Server, conn *Conn, congested bool)
	// ConnectionWritePacketBeforeEventHandler runs on the goroutine that calls Write, and returns what is written instead
	// of packet. It must not change packet's bytes.
	ConnectionWritePacketBeforeEventHandler func(srv *Server, conn *Conn, packet []byte) []byte
)

type events struct {
	startBefore  hook.List[StartBeforeEventHandler]
	startFinish  hook.List[StartFinishEventHandler]
	messageReady hook.List[MessageReadyEventHandler]
	stop         hook.List[StopEventHandler]
	opened       hook.List[ConnectionOpenedEventHandler]
	openedAfter  hook.List[ConnectionOpenedAfterEventHandler]
	closed       hook.List[ConnectionClosedEventHandler]
	preprocess   hook.List[ConnectionPacketPreprocessEventHandler]
	receive      hook.List[ConnectionReceivePacketEventHandler]
	congested    hook.List[ConnectionCongestedEventHandler]
	writeBefore  hook.List[ConnectionWritePacketBeforeEventHandler]
}

// RegStartBeforeEvent registers handler; of all events: a lower priority runs earlier, the default is 0, and
// registering is allowed at any time, from any goroutine.
func (s *Server) RegStartBeforeEvent(handler StartBeforeEventHandler, priority ...int) {
	s.events.startBefore.Add(handler, priority...)
}

// RegStartFinishEvent registers handler.
func (s *Server) RegStartFinishEvent(handler StartFinishEventHandler, priority ...int) {
	s.events.startFinish.Add(handler, priority...)
}

// RegMessageReadyEvent registers handler.
func (s *Server) RegMessageReadyEvent(handler MessageReadyEventHandler, priority ...int) {
	s.events.messageReady.Add(handler, priority...)
}

// RegStopEvent registers handler.
func (s *Server) RegStopEvent(handler StopEventHandler, priority ...int) {
	s.events.stop.Add(handler, priority...)
}

// RegConnectionOpenedEvent registers handler.
func (s *Server) RegConnectionOpenedEvent(handler ConnectionOpenedEventHandler, priority ...int) {
	s.events.opened.Add(handler, priority...)
}

// RegConnectionOpenedAfterEvent registers handler.
func (s *Server) RegConnectionOpenedAfterEvent(handler ConnectionOpenedAfterEventHandler, priority ...int) {
	s.events.openedAfter.Add(handler, priority...)
}

// RegConnectionClosedEvent registers handler.
func (s *Server) RegConnectionClosedEvent(handler ConnectionClosedEventHandler, priority ...int) {
	s.events.closed.Add(handler, priority...)
}

// RegConnectionPacketPreprocessEvent registers handler.
func (s *Server) RegConnectionPacketPreprocessEvent(handler ConnectionPacketPreprocessEventHandler, priority ...int) {
	s.events.preprocess.Add(handler, priority...)
}

// RegConnectionReceivePacketEvent registers handler.
func (s *Server) RegConnectionReceivePacketEvent(handler ConnectionReceivePacketEventHandler, priority ...int) {
	s.events.receive.Add(handler, priority...)
}

// RegConnectionWritePacketBeforeEvent registers handler.
func (s *Server) RegConnectionWritePacketBeforeEvent(handler ConnectionWritePacketBeforeEventHandler, priority ...int) {
	s.events.writeBefore.Add(handler, priority...)
}

// RegConnectionCongestedEvent registers handler.
func (s *Server) RegConnectionCongestedEvent(handler ConnectionCongestedEventHandler, priority ...int) {
	s.events.congested.Add(handler, priority...)
}

// fire runs the handlers of an event of the server itself.
func fire[H ~func(*Server)](s *Server, event string, handlers []H) {
	for _, handler := range handlers {
		hook.Guard(func() { handler(s) }, func(value any, stack []byte) {
			s.stats.panics.Add(1)
			s.log().Error("handler panicked", "event", event, "panic", value, "stack", string(stack))
		})
	}
}

// handleOpened, handlePacket and handleClosed run the handlers of one connection event. A panic ends at supervise.
func (s *Server) handleOpened(view *Conn) {
	defer s.supervise(view, "ConnectionOpened")()
	for _, handler := range s.events.opened.All() {
		handler(s, view)
	}
	for _, handler := range s.events.openedAfter.All() {
		handler(s, view)
	}
}

func (s *Server) handlePacket(view *Conn, packet []byte) {
	if s.opts.deadlock > 0 || s.opts.lowDuration > 0 {
		defer s.watch(view, "ConnectionReceivePacket")()
	}
	defer s.recovered(view, "ConnectionReceivePacket")
	if pre := s.events.preprocess.All(); len(pre) > 0 {
		var ok bool
		if packet, ok = s.preprocess(view, packet, pre); !ok {
			s.stats.aborted.Add(1)
			return
		}
	}
	for _, handler := range s.events.receive.All() {
		handler(s, view, packet)
	}
}

func (s *Server) preprocess(view *Conn, packet []byte, handlers []ConnectionPacketPreprocessEventHandler) ([]byte, bool) {
	aborted := false
	for _, handler := range handlers {
		handler(s, view, packet, func() { aborted = true }, func(newPacket []byte) { packet = newPacket })
		if aborted {
			return nil, false
		}
	}
	return packet, true
}

func (s *Server) handleCongested(view *Conn, congested bool) {
	defer s.supervise(view, "ConnectionCongested")()
	for _, handler := range s.events.congested.All() {
		handler(s, view, congested)
	}
}

func (s *Server) handleClosed(view *Conn, err error) {
	var reason any // an untyped nil where there is no error
	if err != nil {
		reason = err
	}
	for _, handler := range s.events.closed.All() {
		func() {
			defer s.supervise(view, "ConnectionClosed")()
			handler(s, view, reason)
		}()
	}
}

// supervise watches and recovers one handler run; what it returns is deferred.
func (s *Server) supervise(view *Conn, event string) func() {
	stop := s.watch(view, event)
	return func() {
		stop()
		s.report(view, event, recover())
	}
}

// recovered is deferred around handlers: a panic costs their connection, and nothing else.
func (s *Server) recovered(view *Conn, event string) { s.report(view, event, recover()) }

func (s *Server) report(view *Conn, event string, value any) {
	if value == nil {
		return
	}
	s.stats.panics.Add(1)
	s.log().Error("handler panicked", "event", event, "conn", view.GetID(), "panic", value, "stack", string(debug.Stack()))
	view.c.close(closeReason{err: fmt.Errorf("%w: %v", ErrHandlerPanic, value), code: codeInternalError})
}

// watch reports a handler that runs for too long, while it runs (WithDeadlockDetect) or afterwards (WithLowMessageDuration).
func (s *Server) watch(view *Conn, event string) (stop func()) {
	if s.opts.deadlock <= 0 && s.opts.lowDuration <= 0 {
		return func() {}
	}
	begun := time.Now()
	var timer *time.Timer
	if limit := s.opts.deadlock; limit > 0 {
		timer = time.AfterFunc(limit, func() {
			s.log().Warn("handler still running: deadlock?", "event", event, "conn", view.GetID(), "longer than", limit)
		})
	}
	return func() {
		if timer != nil {
			timer.Stop()
		}
		if took := time.Since(begun); s.opts.lowDuration > 0 && took > s.opts.lowDuration {
			s.log().Warn("slow handler", "event", event, "conn", view.GetID(), "took", took)
		}
	}
}
