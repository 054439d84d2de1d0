package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// backphase is where a link stands, seen from its backend. It only moves on.
type backphase int

const (
	awaitsHello backphase = iota
	awaitsAuth
	isReady
	isOver
)

// backlink is a gateway's link, at the backend. What it reads it handles on one goroutine.
type backlink struct {
	b     *Backend // static, as are the next two
	conn  *server.Conn
	plain bool // the gateway doesn't speak the protocol

	hello   helloBody // owned by the reading goroutine, as are the next three
	welcome welcomeBody
	secret  []byte
	clients map[uint64]*backsession // those that packets came for over the link, until their CLOSE

	phase atomic.Int32 // a backphase, written under mu
	heard atomic.Int64 // when anything but clients' packets was received last, Unix nanoseconds
	busy  atomic.Bool  // clients' packets were received since checkSilence looked

	mu       sync.Mutex // guards the rest
	peer     *peer      // set before isReady
	timer    *time.Timer
	finished bool     // ended has been called
	ends     []func() // to be called when the link has ended
}

// newLink begins a link's handshake.
func (b *Backend) newLink(conn *server.Conn, plain bool) *backlink {
	l := &backlink{b: b, conn: conn, plain: plain, clients: map[uint64]*backsession{}}
	conn.SetAttachment(l)
	l.timer = time.AfterFunc(handshakeTime, func() {
		if !l.ready() {
			l.fail(errTooSlow)
		}
	})
	b.mu.Lock()
	b.links[l] = struct{}{}
	b.mu.Unlock()
	return l
}

func (l *backlink) at() backphase { return backphase(l.phase.Load()) }

func (l *backlink) ready() bool { return l.at() == isReady }

// fail closes the link with a reason in the log.
func (l *backlink) fail(err error) {
	l.mu.Lock()
	over := l.at() == isOver
	l.phase.Store(int32(isOver))
	l.mu.Unlock()
	if over {
		return
	}
	l.b.stats.linksRefused.Add(1)
	l.b.log.Warn("gateway's link closed", "gateway", l.conn.GetID(), "err", err)
	l.conn.CloseWith(codePolicyViolation, err.Error(), err)
}

// send queues a control packet.
func (l *backlink) send(data []byte) error {
	return l.conn.Force(frame.NewPacket(linkPacketType, data, nil)) // a few for each session, and none may be missing
}

// isOutPacket reports whether data begins as every packet of a gateway does.
func isOutPacket(data []byte) bool {
	return len(data) >= headerSize && binary.BigEndian.Uint32(data) == outIdentifier
}

func isHello(data []byte) bool {
	return len(data) > headerSize && isOutPacket(data) && getKey(data[4:]) == controlKey && controlType(data[headerSize]) == ctlHello
}

// packet handles one packet of the gateway.
func (l *backlink) packet(data []byte) {
	switch phase := l.at(); {
	case phase == isOver:
		l.b.stats.discarded.Add(1)
	case phase == isReady && l.plain:
		l.plainPacket(data)
	case phase == isReady:
		l.readyPacket(data)
	case l.plain:
		l.acceptPlain(data)
	default:
		l.heard.Store(time.Now().UnixNano())
		l.shake(phase, data)
	}
}

// shake handles a packet of the handshake.
func (l *backlink) shake(phase backphase, data []byte) {
	err := errOutOfTurn
	switch {
	case phase == awaitsHello && isHello(data):
		err = l.onHello(data[headerSize+1:])
	case phase == awaitsHello && l.b.linkOnly && !l.conn.IsWebsocket():
		err = errNotALink
	case phase == awaitsAuth && len(data) > headerSize && isOutPacket(data) && getKey(data[4:]) == controlKey &&
		controlType(data[headerSize]) == ctlAuth:
		err = l.onAuth(data[headerSize+1:])
	}
	if err != nil {
		l.fail(err)
	}
}

func (l *backlink) onHello(body []byte) (err error) {
	if l.hello, err = readHello(body); err != nil {
		return err
	}
	if err := l.b.trusts(l.conn); err != nil {
		return err
	}
	if l.hello.lowest > protocolVersion || l.hello.highest < protocolVersion {
		return fmt.Errorf("%w: the gateway speaks %d to %d, this backend %d", errNoVersion, l.hello.lowest, l.hello.highest, protocolVersion)
	}
	l.welcome = welcomeBody{version: protocolVersion, instance: l.b.instance, nonce: newNonce(), name: l.b.name}
	if l.b.secrets != nil {
		if l.secret = l.b.secrets.common(l.hello.keys); l.secret == nil {
			return errNoProof
		}
		l.welcome.key = idOf(l.secret)
		l.welcome.proof = prove(l.secret, roleBackend, &l.hello, &l.welcome, l.exporter())
	}
	if err := l.send(appendWelcome(beginControl(false, ctlWelcome, 128+len(l.b.name)), &l.welcome)); err != nil {
		return err
	}
	if l.secret == nil {
		return l.becomeReady()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at() == awaitsHello {
		l.phase.Store(int32(awaitsAuth))
	}
	return nil
}

func (l *backlink) exporter() []byte {
	secret, _ := l.conn.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
	return secret
}

func (l *backlink) onAuth(body []byte) error {
	proof, err := readAuth(body)
	if err != nil {
		return err
	}
	if !proves(proof, l.secret, roleGateway, &l.hello, &l.welcome, l.exporter()) {
		return errWrongProof
	}
	return l.becomeReady()
}

// becomeReady ends the handshake.
func (l *backlink) becomeReady() error {
	p := l.b.peerOf(l.hello.instance, l.hello.name)
	p.mu.Lock()
	p.links++
	p.leaving = false // it is back
	p.mu.Unlock()
	ready, err := l.sayReady(p)
	if !ready { // the timer was faster
		p.linkGone()
		l.b.forgetPeer(p)
		return nil
	}
	l.b.log.Info("gateway linked", "gateway", l.conn.GetID(), "name", l.hello.name)
	return err
}

func (l *backlink) sayReady(p *peer) (ready bool, err error) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock() // so that DRAIN comes behind READY, and READY's state is the latest
	l.mu.Lock()
	if ready = l.at() != isOver; ready {
		l.peer = p
		l.phase.Store(int32(isReady))
		l.timer.Stop()
		l.timer = time.AfterFunc(silenceCheck, l.checkSilence)
	}
	l.mu.Unlock()
	if ready {
		l.conn.Exempt()
		err = l.send(append(beginControl(false, ctlReady, 1), byte(l.b.state)))
	}
	return ready, err
}

// silenceCheck is how often a link is looked at for its silence. What is asked about each client's packet is only whether one came
// since, for asking what time it is costs more than all else about it.
const silenceCheck = linkSilence / 10

// checkSilence ends a link on which not even a PING came for too long: its gateway's host has vanished.
func (l *backlink) checkSilence() {
	if l.busy.Swap(false) {
		l.heard.Store(time.Now().UnixNano())
	}
	silent := time.Since(time.Unix(0, l.heard.Load()))
	if silent >= linkSilence {
		l.conn.Abort(errLinkSilent)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at() == isReady {
		l.timer.Reset(min(silenceCheck, linkSilence-silent))
	}
}

// readyPacket handles a packet of a link that is up: a client's, or control.
func (l *backlink) readyPacket(data []byte) {
	if !isOutPacket(data) {
		l.fail(fmt.Errorf("gateway: packet of %d bytes without the identifier: %w", len(data), errMalformed))
		return
	}
	key := getKey(data[4:])
	if key != controlKey {
		if !l.busy.Load() {
			l.busy.Store(true)
		}
		l.receive(key, data[headerSize:])
		return
	}
	l.heard.Store(time.Now().UnixNano())
	if len(data) == headerSize {
		l.fail(fmt.Errorf("gateway: control packet without a type: %w", errMalformed))
		return
	}
	if err := l.control(controlType(data[headerSize]), data[headerSize+1:]); err != nil {
		l.fail(err)
	}
}

// receive handles a client's packet. Whom one came for before is found without the gateway's lock.
func (l *backlink) receive(key uint64, packet []byte) {
	if s := l.clients[key]; s != nil && s.receive(l, packet) {
		return
	}
	s := l.peer.find(key)
	if s == nil || !s.receive(l, packet) {
		delete(l.clients, key)
		l.b.stats.strayData.Add(1)
		return
	}
	l.clients[key] = s
}

// control handles a control packet. An error closes the link; a type that is not known is none.
func (l *backlink) control(t controlType, body []byte) error {
	switch t {
	case ctlOpen:
		o, err := readOpen(body)
		if err != nil {
			return err
		}
		return l.peer.open(l, &o)
	case ctlType:
		key, kind, err := readType(body)
		if err != nil {
			return err
		}
		l.peer.setType(l, key, kind)
	case ctlClose:
		key, attach, cause, err := readClose(body)
		if err != nil {
			return err
		}
		delete(l.clients, key)
		l.peer.close(l, key, attach, cause)
	case ctlFlow:
		return readFlow(body, func(key uint64, congested bool) { l.peer.flow(l, key, congested) })
	case ctlPing:
		n, err := readNonce(ctlPing, body)
		if err != nil {
			return err
		}
		return l.send(binary.BigEndian.AppendUint64(beginControl(false, ctlPong, 8), n))
	case ctlGoaway:
		if _, err := readGoaway(body); err != nil {
			return err
		}
		l.peer.goaway()
	case ctlHello, ctlAuth:
		return errOutOfTurn
	default:
		l.b.stats.controlUnknown.Add(1)
	}
	return nil
}

// whenEnded calls f when the link has ended: at once if it has.
func (l *backlink) whenEnded(f func()) {
	l.mu.Lock()
	finished := l.finished
	if !finished {
		l.ends = append(l.ends, f)
	}
	l.mu.Unlock()
	if finished {
		f()
	}
}

// ended is called when nothing is read or written any more.
func (l *backlink) ended(err error) {
	l.mu.Lock()
	was := l.at()
	l.finished = true
	l.phase.Store(int32(isOver))
	l.timer.Stop()
	p, ends := l.peer, l.ends
	l.ends = nil
	l.mu.Unlock()
	b := l.b
	b.mu.Lock()
	delete(b.links, l)
	b.mu.Unlock()
	for _, f := range ends {
		f()
	}
	if p == nil {
		return
	}
	if was == isReady {
		b.log.Info("gateway's link ended", "gateway", l.conn.GetID(), "name", p.name, "err", err)
	}
	p.lost(l)
	p.linkGone()
	b.forgetPeer(p)
}

var errLinkSuperseded = errors.New("gateway: the session goes on over another link")
