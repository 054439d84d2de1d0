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
)
