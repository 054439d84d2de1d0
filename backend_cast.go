package gateway

import (
	"fmt"
	"slices"

	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

// castShare is how many keys one CAST names at the most: more are told in several.
const castShare = 4096

// Cast writes packet, of the WebSocket type that each client last used, to every one of conns, and returns at once; packet may
// be reused then. One copy goes over each link, whatever the number of clients behind it; direct clients get theirs as by
// Write. It is in order with other writes to the same conns. A packet that is too large gives ErrPacketTooLarge; a link that is
// full, or lost, makes it a Write to each of its clients, as which it waits for another link, or fails.
func (b *Backend) Cast(conns []*server.Conn, packet []byte) error { return b.CastWS(conns, 0, packet) }

// CastWS is Cast with a WebSocket type: 1 is text, 2 is binary; other transports ignore it.
func (b *Backend) CastWS(conns []*server.Conn, wst int, packet []byte) error {
	if err := checkCast(packet); err != nil {
		return err
	}
	lanes := map[*backlink][]*backsession{}
	for _, conn := range conns {
		s := b.sessionOf(conn)
		l := s.castLane()
		if l == nil {
			writeDirect(conn, wst, packet)
			continue
		}
		if lanes[l] = append(lanes[l], s); len(lanes[l]) == castShare {
			b.castKeys(l, lanes[l], wst, packet)
			delete(lanes, l)
		}
	}
	for l, sessions := range lanes {
		b.castKeys(l, sessions, wst, packet)
	}
	return nil
}

// sessionOf returns the session that carries conn, nil if it is a direct client.
func (b *Backend) sessionOf(conn *server.Conn) *backsession {
	if s, ok := conn.Carrier().(*backsession); ok && s.peer.backend == b {
		return s
	}
	return nil
}

func checkCast(packet []byte) error {
	if err := frame.CheckSize(len(packet), maxCastSize); err != nil {
		return fmt.Errorf("gateway: cast: %w", err)
	}
	return nil
}

// maxCastSize is what a cast may hold: a gateway's link takes a packet of 1 MiB by default, and the keys go before it.
const maxCastSize = 1<<20 - castShare*keySize - maxGroupSize - 64

func writeDirect(conn *server.Conn, wst int, packet []byte) {
	if wst != 0 {
		conn = conn.View().SetWST(wst)
	}
	conn.Write(packet)
}

func (b *Backend) castKeys(l *backlink, sessions []*backsession, wst int, packet []byte) {
	keys := make([]byte, 0, keySize*len(sessions))
	for _, s := range sessions {
		keys = appendKey(keys, s.key)
	}
	writeEach(b.sendCast(l, &castBody{kind: byte(wst), to: castKeys, keys: keys, payload: packet}, sessions), wst, packet)
}

// sendCast queues a CAST on a link. If that takes no more, it returns the sessions that the cast was for: each of them gets the
// packet by itself, which waits there for another link, or fails as any write does.
func (b *Backend) sendCast(l *backlink, c *castBody, sessions []*backsession) (missed []*backsession) {
	data := appendCast(beginControl(false, ctlCast, 16+len(c.keys)+len(c.group)+len(c.payload)), c)
	wst, packet := int(c.kind), data[len(data)-len(c.payload):]
	err := l.conn.Enqueue(frame.NewPacket(linkPacketType, data, func(err error) {
		if err != nil { // the link is lost, and its sessions may go on
			writeEach(sessions, wst, packet)
			return
		}
		for _, s := range sessions {
			s.written.Add(1)
		}
	}))
	if err != nil {
		return sessions
	}
	b.stats.casts.Add(1)
	return nil
}

func writeEach(sessions []*backsession, wst int, packet []byte) {
	for _, s := range sessions {
		writeDirect(s.carried.Conn(), wst, packet)
	}
}

// castLane is the link that a cast for the session goes over, nil if it has to be written by itself: to a direct client, one of
// a plain gateway, or one between two links.
func (s *backsession) castLane() *backlink {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.castLaneLocked()
}

func (s *backsession) castLaneLocked() *backlink {
	if s.closed || s.holding || s.link == nil || s.link.plain {
		return nil
	}
	return s.link
}

// CastAll writes packet to every client of the server: one copy for each link, and one for each direct client. Otherwise it is
// Cast.
func (b *Backend) CastAll(packet []byte) error {
	if err := checkCast(packet); err != nil {
		return err
	}
	lanes := map[*backlink][]*backsession{}
	joined := map[*backlink]bool{} // by sessions that get the packet by themselves, and may be open there before the cast is queued
	for _, conn := range b.srv.GetOnlineAll() {
		s := b.sessionOf(conn)
		if l := s.castLane(); l != nil {
			lanes[l] = append(lanes[l], s)
			continue
		}
		if s != nil {
			joined[s.lane()] = true
		}
		writeDirect(conn, 0, packet)
	}
	for l, sessions := range lanes {
		if joined[l] {
			b.castEach(l, sessions, packet)
		} else {
			writeEach(b.sendCast(l, &castBody{to: castAll, payload: packet}, sessions), 0, packet)
		}
	}
	return nil
}

// castEach is a cast to sessions of one lane by their keys.
func (b *Backend) castEach(l *backlink, sessions []*backsession, packet []byte) {
	for some := range slices.Chunk(sessions, castShare) {
		b.castKeys(l, some, 0, packet)
	}
}

// lane returns the link that the session is on, nil: detached.
func (s *backsession) lane() *backlink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}
