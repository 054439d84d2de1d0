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
	answers bool        // the refusal will be told
	asked   atomic.Bool // it has made a request
}

type visitKey struct{}

// meet is told of each connection on the goroutine that accepts, before anything else happens to it.
func (t *wsTransport) meet(ctx context.Context, conn net.Conn) context.Context {
	srv, v := t.acceptor.srv, &visit{}
	if v.refusal = srv.arrive(); v.refusal != "" {
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

// letIn lets a request's connection enter, and arrive if it has not. If it may not, the request is answered.
func (u *upgrader) letIn(w http.ResponseWriter, r *http.Request) (arrived, ok bool) {
	srv, addr := u.acceptor.srv, requestAddr(r.RemoteAddr)
	come := srv.enter
	if arrived = visitOf(r) == nil; arrived {
		come = srv.come
	}
	if refusal := come(addr); refusal != "" {
		srv.refuse(refusal, addr)
		tryAgain(w, refusal)
		return false, false
	}
	return arrived, true
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
