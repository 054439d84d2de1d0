package kcp

import (
	"net"

	kcpgo "github.com/xtaci/kcp-go/v5"

	"github.com/minotaur-gateway/gateway/server"
)

// What tests need of the wire.
const (
	TypeHello, TypeWelcome, TypeReady = typeHello, typeWelcome, typeReady
	TypeData, TypePing, TypePong      = typeData, typePing, typePong
	TypeClose                         = typeClose
	HeadSize                          = headSize
)

var (
	AppendHead   = appendHead
	AppendFrame  = appendFrame
	HelloFrame   = helloFrame
	WelcomeFrame = welcomeFrame
	CloseFrame   = closeFrame
	ParseClose   = parseClose
	ParseHello   = parseHello
	ReadFrame    = readFrame
)

// NewID returns the name of a session.
func NewID() [16]byte { return newID() }

// NewSession returns a session of kcp-go, tuned as a client's.
func NewSession(conv uint32, remote net.Addr, socket net.PacketConn) (*kcpgo.UDPSession, error) {
	o := newOptions(DefaultClientWindow, DefaultClientPing, DefaultClientTimeout, nil)
	return newSession(conv, remote, socket, &o)
}

// HalfOpen returns how many sessions of a transport are in their handshake, and how many there are in all.
func HalfOpen(t server.Transport) (halfOpen, all int) {
	h := t.(*transport).current()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.halfOpen, h.count
}
