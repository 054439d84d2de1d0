package server

import "net"

// Over makes s accept from ln instead of binding an address.
func Over(s *Server, ln net.Listener) {
	t, err := s.newTransport()
	if err != nil {
		panic(err)
	}
	s.opts.transport = overTransport{t, ln}
}

type overTransport struct {
	Transport
	ln net.Listener
}

func (t overTransport) Listen(string) error { return t.Transport.(listenerUser).use(t.ln) }

// Internals that tests name.
const (
	HandshakeTimeout = handshakeTimeout
	PacketTimeout    = packetTimeout
	LingerTimeout    = lingerTimeout
	MailboxBytes     = mailboxBytes
	MaxRequestHead   = maxRequestHead
	MaxAnswers       = maxAnswers
)

// Counted returns what a server's limits know of: the connections that are there, and the addresses and prefixes that they come from.
func Counted(s *Server) (present, addresses, prefixes int) {
	s.door.mu.Lock()
	defer s.door.mu.Unlock()
	return int(s.door.present.Load()), len(s.door.addresses), len(s.door.prefixes)
}
