package gateway

import (
	"bytes"
	"fmt"
	"time"
)

// dialect is what an endpoint speaks on its links. It is found out by the first of them, holds for all, and is forgotten
// when all are lost. Over WebSocket each link negotiates by itself.
type dialect int

const (
	dialectUnknown dialect = iota
	dialectPlain           // data packets only, as in v0.5.5
	dialectSession         // the session protocol
)

// shake is where a link's handshake stands.
type shake int

const (
	shakeNone    shake = iota
	shakeWelcome       // HELLO was sent
	shakeReady         // WELCOME has come
	shakeDone
)

// begin decides, once a link is connected, what it speaks, or asks.
func (l *link) begin() {
	e := l.endpoint
	e.mu.Lock()
	known := e.dialect
	e.mu.Unlock()
	switch {
	case e.plainOnly, known == dialectPlain && !e.negotiates:
		l.comeUp(false)
	case e.negotiates && l.cli.Subprotocol() != protocolSubprotocol:
		l.fallBack()
	case e.negotiates, known == dialectSession:
		l.sayHello(false)
	default:
		l.sayHello(e.secrets == nil)
	}
}

// sayHello begins the handshake. Where the endpoint may be a plain one, it is taken for one if there is no answer.
func (l *link) sayHello(maybePlain bool) {
	g := l.gw
	hello := helloBody{
		lowest: protocolVersion, highest: protocolVersion, instance: g.instance, nonce: newNonce(), name: g.name,
		keys: l.endpoint.secrets.ids(),
	}
	limit := handshakeTime
	if maybePlain {
		limit = helloPatience
	}
	l.mu.Lock()
	l.hello, l.maybePlain, l.shake, l.asked = hello, maybePlain, shakeWelcome, time.Now()
	l.helloBytes = appendHello(beginControl(true, ctlHello, 64+len(hello.name)+keyIDSize*len(hello.keys)), &hello)
	l.timer = time.AfterFunc(limit, l.handshakeOver)
	packet := l.helloBytes
	l.mu.Unlock()
	l.tell(packet)
}

// handshakeOver is called when the handshake has taken too long.
func (l *link) handshakeOver() {
	l.mu.Lock()
	stage, maybePlain := l.shake, l.maybePlain
	if stage == shakeWelcome && maybePlain {
		l.shake = shakeDone
	}
	l.mu.Unlock()
	switch {
	case stage == shakeDone:
	case stage == shakeWelcome && maybePlain:
		l.comeUp(false)
	default:
		l.cli.Abort(errTooSlow)
	}
}

// shaking handles a packet of the handshake, and reports false for one that comes after it.
func (l *link) shaking(packet []byte) bool {
	l.mu.Lock()
	stage := l.shake
	l.mu.Unlock()
	switch stage {
	case shakeWelcome:
		return l.awaitWelcome(packet)
	case shakeReady:
		if t, body, ok := inControl(packet); ok && t == ctlReady {
			l.onReady(body)
		} else {
			l.cli.Abort(errOutOfTurn)
		}
		return true
	}
	return false
}

func (l *link) awaitWelcome(packet []byte) bool {
	if t, body, ok := inControl(packet); ok && t == ctlWelcome {
		if err := l.onWelcome(body); err != nil {
			l.cli.Abort(err)
		}
		return true
	}
	// It speaks, but not the protocol: a plain endpoint, or one that sends HELLO back.
	l.mu.Lock()
	echo := bytes.Equal(packet, l.helloBytes)
	maybePlain := l.maybePlain && l.shake == shakeWelcome
	if maybePlain {
		l.shake = shakeDone
		l.timer.Stop()
	}
	l.mu.Unlock()
	if !maybePlain {
		l.cli.Abort(fmt.Errorf("%w: no WELCOME", errOutOfTurn))
		return true
	}
	l.comeUp(false)
	return echo
}

// inControl takes a control packet of a backend apart.
func inControl(packet []byte) (t controlType, body []byte, ok bool) {
	if len(packet) <= headerSize || getKey(packet) != controlKey {
		return 0, nil, false
	}
	return controlType(packet[headerSize]), packet[headerSize+1:], true
}

func (l *link) onWelcome(body []byte) error {
	w, err := readWelcome(body)
	if err != nil {
		return err
	}
	if w.version != protocolVersion {
		return fmt.Errorf("%w: the backend chose %d, this gateway speaks %d", errNoVersion, w.version, protocolVersion)
	}
	secrets := l.endpoint.secrets
	l.mu.Lock()
	hello := l.hello
	l.mu.Unlock()
	var auth []byte
	if secrets != nil {
		secret, exporter := secrets.named(w.key), l.exporter()
		switch {
		case secret == nil:
			return errNoProof
		case !proves(w.proof, secret, roleBackend, &hello, &w, exporter):
			return errWrongProof
		}
		auth = appendString(beginControl(true, ctlAuth, 1+proofSize), string(prove(secret, roleGateway, &hello, &w, exporter)))
	}
	l.mu.Lock()
	if l.shake != shakeWelcome { // the time was up first
		l.mu.Unlock()
		return errTooSlow
	}
	l.shake, l.peer, l.peerName = shakeReady, w.instance, w.name
	l.timer.Reset(time.Until(l.asked.Add(handshakeTime))) // of all of it, whatever comes
	l.mu.Unlock()
	if auth != nil {
		l.tell(auth)
	}
	return nil
}

func (l *link) exporter() []byte {
	secret, _ := l.cli.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
	return secret
}

func (l *link) onReady(body []byte) {
	state, err := readState(ctlReady, body)
	if err != nil {
		l.cli.Abort(err)
		return
	}
	l.mu.Lock()
	inTime := l.shake == shakeReady
	l.shake = shakeDone
	l.timer.Stop()
	l.mu.Unlock()
	if inTime {
		l.endpoint.setBackendState(state)
		l.comeUp(true)
	}
}

// fallBack makes the link a plain one, unless a secret forbids that.
func (l *link) fallBack() {
	if l.endpoint.secrets != nil {
		l.cli.Abort(fmt.Errorf("%w: the endpoint doesn't speak the session protocol, and there is a secret", ErrUntrusted))
		return
	}
	l.comeUp(false)
}

// comeUp lets the link take sessions, now that it is known what it speaks.
func (l *link) comeUp(session bool) {
	if session { // else it is false already, and may be being read
		l.session = true
		l.endpoint.meet(l)
	}
	l.endpoint.linkUp(l)
	if session {
		l.keepPinging()
	}
}

// tell queues a control packet that is about the link itself.
func (l *link) tell(packet []byte) {
	if err := l.cli.Enqueue(newLinkPacket(packet, nil)); err != nil {
		l.gw.counts.add(controlUnsent) // the link is lost, or its peer doesn't read: the write timeout tells
	}
}

// force queues a control packet that must not be dropped.
func (l *link) force(packet []byte) {
	if err := l.cli.Force(newLinkPacket(packet, nil)); err != nil {
		l.gw.counts.add(controlUnsent) // the link is lost
	}
}

// awaitDialect waits until it is known what the endpoint speaks, or until it is this slot's turn to find out. ok is false
// when ctx is done.
func (e *Endpoint) awaitDialect(done <-chan struct{}) (probe, ok bool) {
	if e.plainOnly || e.negotiates {
		return false, true
	}
	for {
		e.mu.Lock()
		known, probing, probed := e.dialect != dialectUnknown, e.probing, e.probed
		if !known && !probing {
			e.probing = true
		}
		e.mu.Unlock()
		switch {
		case known:
			return false, true
		case !probing:
			return true, true
		}
		select {
		case <-probed:
		case <-done:
			return false, false
		}
	}
}

// endProbeLocked lets the slots that wait look again.
func (e *Endpoint) endProbeLocked() {
	if e.probing {
		e.probing = false
		close(e.probed)
		e.probed = make(chan struct{})
	}
}
