package server

import "net"

// Over makes s accept from ln instead of binding an address.
func Over(s *Server, ln net.Listener) {
	ln = &patientListener{Listener: ln, logger: s.opts.logger, closed: make(chan struct{})}
	t, err := s.newTransport()
	if err != nil {
		panic(err)
	}
	switch t := t.(type) {
	case *wsTransport:
		s.opts.transport = overTransport{t, func() { t.listener = ln }}
	case *streamTransport:
		s.opts.transport = overTransport{t, func() { t.listener = ln }}
	}
}

type overTransport struct {
	Transport
	listen func()
}

func (t overTransport) Listen(string) error { t.listen(); return nil }

// Internals that tests name.
const (
	HandshakeTimeout = handshakeTimeout
	PacketTimeout    = packetTimeout
	LingerTimeout    = lingerTimeout
	MailboxBytes     = mailboxBytes
	MaxRequestHead   = maxRequestHead
)
