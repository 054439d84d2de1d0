package server

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// retryAfter is how many seconds a client that was refused is asked to wait.
const retryAfter = "5"

// visit is a connection as long as it is net/http's, where that is the server's own.
type visit struct {
	refusal Refusal     // "": it has arrived
	entered net.Addr    // nil: not yet, for requests may name another client
	answers bool        // the refusal will be told
	asked   atomic.Bool // it has made a request
}

type visitKey struct{}

// meet is told of each connection on the goroutine that accepts, before anything else happens to it.
func (t *wsTransport) meet(ctx context.Context, conn net.Conn) context.Context {
	srv, v := t.acceptor.srv, &visit{}
	if addr := conn.RemoteAddr(); addr != nil && t.opts.proxies.speaker(addr.String()).IsValid() {
		v.refusal = srv.arrive()
	} else {
		v.entered = addr
		v.refusal = srv.come(addr)
	}
	if v.refusal != "" {
		srv.refuse(v.refusal, conn.RemoteAddr())
		if v.answers = srv.beginAnswer(); !v.answers {
			conn.Close() // net/http will notice
		}
	}
	t.visits.Store(conn, v)
	return context.WithValue(withProxy(ctx, conn), visitKey{}, v)
}

// part is told when a connection is no longer net/http's. One that was hijacked goes on.
func (t *wsTransport) part(conn net.Conn, hijacked bool) {
	met, ok := t.visits.LoadAndDelete(conn)
	if !ok {
		return
	}
	v, srv := met.(*visit), t.acceptor.srv
	if v.answers {
		srv.endAnswer()
	}
	if v.refusal != "" || hijacked {
		return
	}
	if v.entered != nil {
		srv.leave(v.entered)
	}
	if srv.depart(); !v.asked.Load() {
		srv.stats.refusals.add(RefusedHandshake)
	}
}

// visitOf returns what is known of the connection that a request came by, nil where it isn't the server's own.
func visitOf(r *http.Request) *visit {
	v, _ := r.Context().Value(visitKey{}).(*visit)
	return v
}

// requestAddr is a client's address as net/http tells it, or what middleware has put in its place.
type requestAddr string

func (a requestAddr) Network() string { return "tcp" }
func (a requestAddr) String() string  { return string(a) }

// letIn lets a request's connection arrive and enter, as far as it has not, and tells by which address, and which of it is to be undone
// where the connection stays net/http's. If it may not, the request is answered.
func (u *upgrader) letIn(w http.ResponseWriter, r *http.Request) (entered net.Addr, undo func(net.Addr), ok bool) {
	srv := u.acceptor.srv
	come, undo := srv.come, srv.goAway
	if v := visitOf(r); v != nil && v.entered != nil {
		return v.entered, func(net.Addr) {}, true
	} else if v != nil {
		come, undo = srv.enter, srv.leave
	}
	entered = requestAddr(r.RemoteAddr)
	if refusal := come(entered); refusal != "" {
		srv.refuse(refusal, entered)
		tryAgain(w, refusal)
		return nil, nil, false
	}
	return entered, undo, true
}

// tryAgain answers a request that there is no room for.
func tryAgain(w http.ResponseWriter, r Refusal) {
	w.Header().Set("Retry-After", retryAfter)
	w.Header().Set("Connection", "close")
	http.Error(w, string(r), http.StatusServiceUnavailable)
}

// reenter lets a connection that has entered by one address do so by another, if they differ: middleware may have changed the
// request's.
func (s *Server) reenter(from, to net.Addr) Refusal {
	was, _ := s.opts.limits.address(from)
	if is, _ := s.opts.limits.address(to); is == was {
		return ""
	}
	s.leave(from)
	return s.enter(to)
}
