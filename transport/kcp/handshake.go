package kcp

import (
	"crypto/rand"
	"fmt"
	"net"
	"time"

	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/server"
)

// newSession returns a session of kcp-go over socket, which stays the caller's.
func newSession(conv uint32, remote net.Addr, socket net.PacketConn, o *options) (*kcpgo.UDPSession, error) {
	block, err := o.block()
	if err != nil {
		return nil, fmt.Errorf("kcp: encryption: %w", err)
	}
	session, err := kcpgo.NewConn4(conv, remote, block, o.data, o.parity, false, socket)
	if err != nil {
		return nil, fmt.Errorf("kcp: %w", err)
	}
	o.tune(session)
	return session, nil
}

// shake is a server's side of a handshake. It makes a connection of a session, or closes it.
func (h *hub) shake(e *entry, acceptor *server.Acceptor) {
	defer h.handshakes.Done()
	err := e.conn.within(h.opts.handshake, e.conn.greet)
	h.release(e.from.Addr())
	if err != nil {
		acceptor.Refuse(server.RefusedHandshake)
		h.opts.logger.Debug("kcp handshake failed", "conn", e.remote.String(), "err", err)
		e.conn.Close()
		return
	}
	for _, old := range h.establish(e) {
		old.conn.fail(ErrReplaced)
	}
	e.conn.watch()
	acceptor.Accept(e.conn)
}

// within runs a handshake, and ends the connection if it takes longer than d, whatever comes meanwhile.
func (c *conn) within(d time.Duration, shake func() error) error {
	timer := time.AfterFunc(d, func() { c.fail(ErrHandshakeTimeout) })
	defer timer.Stop()
	if err := shake(); err != nil {
		return err
	}
	if !timer.Stop() {
		return ErrHandshakeTimeout
	}
	return nil
}

// greet answers HELLO, and waits for the proof that the client is where it seems to be.
func (c *conn) greet() error {
	body, err := c.expect(typeHello)
	if err != nil {
		return err
	}
	session, err := parseHello(body)
	if err != nil {
		return err
	}
	cookie := newID()
	if err := c.write(c.writeTimeout, welcomeFrame(session, cookie)); err != nil {
		return err
	}
	if body, err = c.expect(typeReady); err != nil {
		return err
	}
	if string(body) != string(cookie[:]) {
		return fmt.Errorf("%w: wrong cookie", ErrBadFrame)
	}
	return nil
}

// introduce is a client's side of the handshake.
func (c *conn) introduce() error {
	session := newID()
	if err := c.write(c.writeTimeout, helloFrame(session)); err != nil {
		return err
	}
	body, err := c.expect(typeWelcome)
	if err != nil {
		return err
	}
	cookie, err := parseWelcome(body, session)
	if err != nil {
		return err
	}
	return c.write(c.writeTimeout, appendFrame(nil, typeReady, cookie[:]))
}

// expect reads a frame of the handshake.
func (c *conn) expect(want byte) ([]byte, error) {
	kind, body, err := readFrame(c.r, 0)
	if err == nil && kind != want {
		err = fmt.Errorf("%w: type %d in the handshake, want %d", ErrBadFrame, kind, want)
	}
	return body, err
}

func newID() (n id) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}
