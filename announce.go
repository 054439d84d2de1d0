package gateway

import "github.com/minotaur-gateway/gateway/server"

// What a gateway tells a backend about a session, on its lane, in order with its packets: OPEN before the first, TYPE where
// that changes, CLOSE after the last.

// askAttributes asks the user's code for what OPEN tells about a client, once.
func (g *Gateway) askAttributes(s *session, conn *server.Conn, e *Endpoint) {
	if g.attributes == nil || s.attributes.Load() != nil || !e.speaksSession() {
		return
	}
	var data []byte
	g.guard("open attributes", func() {
		var err error
		if data, err = appendAttributes(nil, g.attributes(conn)); err != nil {
			g.log.Error("attributes left out", "conn", conn.GetID(), "err", err)
		}
	})
	s.attributes.Store(&data)
}

// speaksSession reports whether the endpoint is a backend.
func (e *Endpoint) speaksSession() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dialect == dialectSession
}

// control returns a control packet of a session's, for its lane.
func (o *opening) control(t controlType, data []byte) *forward {
	return &forward{gw: o.session.gw, endpoint: o.endpoint, opening: o, conn: o.session.conn, data: data, control: t}
}

// announce queues what has to come before a session's packet: OPEN, or TYPE. The caller holds the session's lock.
func (e *Endpoint) announce(f *forward) error {
	o := f.opening
	if err := e.pin(o); err != nil {
		return err
	}
	if l := o.lane.Load(); l == nil || !l.session { // lost just now: what is queued next finds out
		return nil
	}
	kind := uint8(f.conn.GetWST())
	if o.attach.Load() == 0 {
		o.attach.Store(o.session.gw.attaches.Add(1))
		if err := e.enqueue(o.open(kind)); err != nil {
			o.attach.Store(0)
			return err
		}
		o.kind = kind
		o.repeatFlow()
		if backendState(e.backend.Load()) == backendLeaving { // whoever chose it did so just before it said so
			f.gw.evacuateSoon()
		}
	}
	if kind == o.kind {
		return nil
	}
	t := o.control(ctlType, append(appendKey(beginControl(true, ctlType, keySize+1), o.session.key), kind))
	t.kind = kind
	if err := e.enqueue(t); err != nil {
		return err
	}
	o.kind = kind
	return nil
}

// pin gives a session without a lane one, and takes it up there if it was open before all links were lost. The caller holds
// the session's lock.
func (e *Endpoint) pin(o *opening) error {
	if o.lane.Load() != nil {
		return nil
	}
	l := e.chooseLane(o)
	if l == nil {
		return ErrNoLink
	}
	if !l.session {
		o.attach.Store(0) // what was a backend is a plain endpoint now
	}
	if o.attach.Load() == 0 {
		return nil
	}
	e.mu.Lock()
	open := o.resumedOpenLocked()
	e.mu.Unlock()
	if err := e.enqueue(open); err != nil {
		e.unpin(o)
		return err
	}
	o.repeatFlow()
	return nil
}

// repeatFlow says again, behind an OPEN, whether the client's queue is filling up, if that was ever said: it may be that nobody
// heard. The caller holds the session's lock.
func (o *opening) repeatFlow() {
	f := &o.session.flow
	if l := o.lane.Load(); f.at != 0 && l != nil && l.session && o.attach.Load() != 0 {
		l.tell(o.flowPacket(f.told))
	}
}

// unpin takes a session off its lane again.
func (e *Endpoint) unpin(o *opening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := o.lane.Swap(nil); l != nil {
		l.sessions--
	}
}

// open returns the OPEN of a session that is new on its endpoint.
func (o *opening) open(kind byte) *forward {
	return o.openPacket(&openBody{kind: kind})
}

// resumedOpenLocked returns the OPEN of a session that goes on over another link. Endpoint.mu is held: what was written over
// the old one is known, for its writer has ended.
func (o *opening) resumedOpenLocked() *forward {
	if o.losses == nil {
		o.losses = &losses{}
	}
	sent, got := o.written.Load(), o.received.Load()
	o.losses.sentThen, o.losses.gotThen = sent, got
	o.resuming.Store(true)
	o.attach.Store(o.session.gw.attaches.Add(1))
	return o.openPacket(&openBody{resumed: true, kind: byte(o.kindWritten.Load()), written: sent, received: got})
}

func (o *opening) openPacket(b *openBody) *forward {
	s := o.session
	b.key, b.attach = s.key, o.attach.Load()
	b.transport = string(s.conn.GetServer().GetNetwork())
	if addr := s.conn.RemoteAddr(); addr != nil {
		b.address = addr.String()
	}
	if attributes := s.attributes.Load(); attributes != nil {
		b.attributes = *attributes
	}
	if state := o.handed.Load(); state != nil { // in every OPEN, until it is known that one has come
		b.state = *state
	}
	f := o.control(ctlOpen, appendOpen(beginControl(true, ctlOpen, 64+len(b.address)+len(b.attributes)+len(b.state)), b))
	f.kind = b.kind
	return f
}

// closeOpening ends a session on an endpoint: at once on a plain one, behind what is queued for it on a backend. One that is on
// its way to another endpoint stays until that is done.
func (e *Endpoint) closeOpening(o *opening, cause closeCause) {
	if own := closeCause(o.cause.Load()); own != 0 {
		cause = own
	}
	attach := o.attach.Load()
	switch {
	case o.moving.Load() && cause != causeMoved: // it was told already
		e.detach(o)
		return
	case attach == 0:
		e.detach(o)
		return
	}
	switch l := e.chooseLane(o); { // any of the endpoint's links will do, where it has none
	case l == nil:
		e.owe(o)
		e.detach(o)
	case !l.session: // nobody is left to be told
		e.detach(o)
	default:
		if f := o.closing(cause); e.enqueue(f) != nil {
			f.settleControl(ErrNoLink)
		}
	}
}

// closing returns the CLOSE of a session.
func (o *opening) closing(cause closeCause) *forward {
	f := o.control(ctlClose, closePacket(o.session.key, o.attach.Load(), cause))
	f.cause = cause
	return f
}

func closePacket(key uint64, attach uint32, cause closeCause) []byte {
	return appendClose(beginControl(true, ctlClose, 16), key, attach, cause)
}

// debt is a CLOSE that could not be sent, because all links were lost.
type debt struct {
	key    uint64
	attach uint32
}

const maxDebts = 1 << 16 // more than that a grace time ends at the backend

// owe notes that a session's CLOSE is still to be told.
func (e *Endpoint) owe(o *opening) {
	e.mu.Lock()
	if len(e.debts) < maxDebts {
		e.debts = append(e.debts, debt{o.session.key, o.attach.Load()})
	}
	l := e.leastLocked(o)
	e.mu.Unlock()
	if l != nil { // it has come up just now
		e.payDebts(l)
	}
}

// payDebts tells a backend that has come back which sessions have ended or gone elsewhere meanwhile.
func (e *Endpoint) payDebts(l *link) {
	e.mu.Lock()
	debts := e.debts
	e.debts = nil
	e.mu.Unlock()
	if !l.session {
		return // nobody is left to be told
	}
	for _, d := range debts {
		l.force(closePacket(d.key, d.attach, causeLeft))
	}
}

// settleControl ends a control packet.
func (f *forward) settleControl(err error) {
	o := f.opening
	switch {
	case f.control == ctlClose && o.moving.Load(): // CLOSED is still to come
	case f.control == ctlClose:
		if err != nil {
			o.endpoint.owe(o)
		}
		o.endpoint.detach(o)
	case err == nil:
		o.kindWritten.Store(uint32(f.kind))
	}
	if err != nil {
		f.gw.counts.add(controlUnsent)
	}
}
