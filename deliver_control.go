package gateway

import "github.com/minotaur-gateway/gateway/server"

// control handles a backend's control packet. One that is malformed closes the link; a type that is not known is counted.
func (g *Gateway) control(l *link, payload []byte) {
	if len(payload) == 0 {
		g.malformed(l, errMalformed)
		return
	}
	t, body := controlType(payload[0]), payload[1:]
	if err := g.handleControl(l, t, body); err != nil {
		g.malformed(l, err)
	}
}

func (g *Gateway) malformed(l *link, err error) {
	g.counts.drop(g.log, droppedMalformed, "malformed control packet", l.endpoint)
	l.cli.Abort(err)
}

func (g *Gateway) handleControl(l *link, t controlType, body []byte) error {
	switch t {
	case ctlPong:
		nonce, err := readNonce(t, body)
		if err != nil {
			return err
		}
		l.onPong(nonce)
	case ctlAttached:
		a, err := readAttached(body)
		if err != nil {
			return err
		}
		g.onAttached(l, &a)
	case ctlKick:
		key, code, reason, err := readKick(body)
		if err != nil {
			return err
		}
		g.kick(l, key, code, reason)
	case ctlRelease:
		key, err := readRelease(body)
		if err != nil {
			return err
		}
		g.release(l, key)
	case ctlClosed:
		key, attach, state, err := readClosed(body)
		if err != nil {
			return err
		}
		g.onClosed(l, key, attach, state)
	case ctlHandoff:
		key, name, state, err := readHandoff(body)
		if err != nil {
			return err
		}
		g.handoff(l, key, name, state)
	case ctlDrain:
		state, err := readState(t, body)
		if err != nil {
			return err
		}
		l.endpoint.setBackendState(state)
	case ctlJoin, ctlLeave:
		return g.regroup(l, t, body)
	case ctlCast:
		c, err := readCast(body)
		if err != nil {
			return err
		}
		g.cast(l, &c)
	default:
		g.counts.add(controlUnknown)
	}
	return nil
}

// openingOn returns the opening of the session that goes by key, if l is its lane: no backend has a say about anybody else.
func (g *Gateway) openingOn(l *link, key uint64) (*session, *opening) {
	s, ok := g.keys.sessions.Get(key)
	if ok {
		s.mu.Lock()
		o := s.findLocked(l.endpoint)
		s.mu.Unlock()
		if o != nil && o.on(l) {
			return s, o
		}
	}
	g.counts.add(controlStray)
	return nil, nil
}

// onAttached counts what a lost link took with it. Both sides know now.
func (g *Gateway) onAttached(l *link, a *attachedBody) {
	_, o := g.openingOn(l, a.key)
	if o == nil || a.attach != o.attach.Load() {
		return
	}
	o.resuming.Store(false)
	o.handed.Store(nil)
	e := l.endpoint
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := o.losses; l != nil {
		g.counts.n[lostUp].Add(news(&l.up, l.sentThen, a.received))
		g.counts.n[lostDown].Add(news(&l.down, a.written, l.gotThen))
	}
}

// kick closes a client, after what was written to it before.
func (g *Gateway) kick(l *link, key uint64, code int, reason string) {
	s, o := g.openingOn(l, key)
	if o == nil {
		return
	}
	o.cause.Store(uint32(causeKicked))
	if code < 4000 || code > 4999 {
		code = codePolicyViolation
	}
	g.counts.add(kicked)
	s.conn.CloseWith(code, reason, ErrKicked)
}

// release ends a session on the endpoint that asks for it. The client stays, and its next packet opens it anew.
func (g *Gateway) release(l *link, key uint64) {
	s, o := g.openingOn(l, key)
	if o == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.findLocked(l.endpoint) == o {
		s.dropOpeningLocked(o, causeRelease)
	}
}

// goaway tells every backend that the gateway is shutting down. CLOSE follows for each session.
func (g *Gateway) goaway() {
	for e := range g.Endpoints() {
		e.mu.Lock()
		links := append([]*link(nil), e.links...)
		e.mu.Unlock()
		for _, l := range links {
			if l.session {
				l.tell(append(beginControl(true, ctlGoaway, 1), byte(causeGoaway)))
			}
		}
	}
}

// EndpointOf returns the endpoint that conn is bound to under name, dead or not, nil if it is bound to none.
func (g *Gateway) EndpointOf(name string, conn *server.Conn) *Endpoint {
	if s := g.sessionOf(conn); s != nil {
		return s.boundTo(name)
	}
	return nil
}
