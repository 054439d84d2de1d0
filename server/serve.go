package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
)

// source is where a run's connections come from: an address to listen on, something that listens already, or nowhere.
type source struct {
	addr     string
	listener net.Listener
	packets  net.PacketConn
	none     bool
}

// listens reports whether somebody has made what is accepted from.
func (src source) listens() bool { return src.listener != nil || src.packets != nil }

// listenerUser is implemented by transports that accept from somebody's listener instead of listening themselves.
type listenerUser interface{ use(ln net.Listener) error }

// packetUser is implemented by transports that read datagrams from somebody's socket instead of binding one.
type packetUser interface{ usePackets(pc net.PacketConn) error }

// listenOn makes t accept from src. If that fails, t is closed.
func (s *Server) listenOn(t Transport, src source) (err error) {
	switch {
	case src.listener != nil:
		u, ok := t.(listenerUser)
		if !ok {
			return fmt.Errorf("%w: %s has no listeners for Serve", ErrNetworkUnsupported, s.network)
		}
		err = u.use(src.listener)
	case src.packets != nil:
		u, ok := t.(packetUser)
		if !ok {
			return fmt.Errorf("%w: %s has no datagrams for ServePacket", ErrNetworkUnsupported, s.network)
		}
		err = u.usePackets(src.packets)
	default:
		err = t.Listen(src.addr)
	}
	if err != nil {
		return errors.Join(err, t.Close())
	}
	return nil
}

// Serve accepts connections from ln until Shutdown, or until ln is closed, and returns nil then: on the networks of streams, and
// WebSockets, whose every path is served. A server that isn't running it runs, with the errors of Run; of one that is (after Start, or
// in a handler) ln is one more listener, whose errors end nothing else. ln belongs to the server from then on. WithTLS and
// WithTLSConfig hold for ln too, unless its connections are of TLS already. Errors beside Run's: ErrNetworkUnsupported.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close() // where it was not used
	return s.serve(source{listener: ln})
}

// ServePacket is Serve for networks of datagrams: players are told apart by the address that pc.ReadFrom returns.
func (s *Server) ServePacket(pc net.PacketConn) error {
	defer pc.Close()
	return s.serve(source{packets: pc})
}

func (s *Server) serve(src source) error {
	for {
		err := s.run(context.Background(), src)
		if !errors.Is(err, ErrServerRunning) {
			return err
		}
		if s.accepts() {
			return s.serveBeside(src)
		}
	}
}

// accepts waits until the run that was begun last has come to accept connections, or has failed: then it reports false.
func (s *Server) accepts() bool {
	s.mu.Lock()
	l := s.life
	s.mu.Unlock()
	select {
	case <-l.prepared:
		return l.accepts
	case <-s.stop: // a handler of the start may be waiting for the caller
		return true
	}
}

// serveBeside serves one more source of connections while the server is running.
func (s *Server) serveBeside(src source) error {
	transport, err := s.newTransport()
	if err != nil {
		return err
	}
	if err := s.listenOn(transport, src); err != nil {
		return err
	}
	s.mu.Lock()
	if !s.accepting {
		s.mu.Unlock()
		return errors.Join(ErrServerClosed, transport.Close())
	}
	s.transports = append(s.transports, transport)
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	err = transport.Serve(&Acceptor{srv: s})
	s.mu.Lock()
	s.transports = slices.DeleteFunc(s.transports, func(t Transport) bool { return t == transport })
	s.mu.Unlock()
	return errors.Join(err, transport.Close())
}

// ServeHTTP makes the server, on NetworkWebsocket and while it is running (Start), a handler that upgrades requests: mount it at a path of any mux,
// behind any middleware whose ResponseWriter can be hijacked or has Unwrap. It serves every path that it is given, and returns once the
// connection is the server's. While the server isn't running the answer is 503. Requests over HTTP/2 can't be upgraded (RFC 9113,
// section 8.6), and browsers make none over it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.network != NetworkWebsocket {
		http.Error(w, fmt.Sprintf("server: network %q has no WebSockets", string(s.network)), http.StatusNotImplemented)
		return
	}
	if u := s.mounted(); u != nil {
		u.ServeHTTP(w, r)
		return
	}
	s.stats.refusals.add(RefusedShutdown)
	http.Error(w, "not running", http.StatusServiceUnavailable)
}

// mounted returns the upgrader of requests that come from ServeHTTP, nil while the server isn't running.
func (s *Server) mounted() *upgrader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.accepting {
		return nil
	}
	if s.upgrader == nil {
		s.upgrader = newUpgrader(s.opts, &Acceptor{srv: s})
	}
	return s.upgrader
}
