package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"time"
)

// listen binds addr for stream sockets of network, behind TLS where the options say so.
func listen(network Network, addr string, opts options) (net.Listener, error) {
	config, err := opts.tlsConfig(network) // first: what is wrong with a certificate shall not cost a port
	if err != nil {
		return nil, err
	}
	ln, err := listenPlain(network, addr, opts.listenConfig)
	if err != nil {
		return nil, err
	}
	return patient(ln, config, network, opts), nil
}

// over is listen on a listener that somebody has made.
func over(ln net.Listener, network Network, opts options) (net.Listener, error) {
	config, err := opts.tlsConfig(network)
	if err != nil {
		ln.Close()
		return nil, err
	}
	return patient(ln, config, network, opts), nil
}

// patient returns a listener that goes on where accepting fails for the moment, knows the clients of trusted proxies, and has TLS unless
// config is nil.
func patient(ln net.Listener, config *tls.Config, network Network, opts options) net.Listener {
	ln = &patientListener{Listener: ln, logger: opts.logger, closed: make(chan struct{})}
	ln = opts.proxies.over(ln, network == NetworkWebsocket)
	if config == nil {
		return ln
	}
	return tls.NewListener(ln, config)
}

func listenPlain(network Network, addr string, config net.ListenConfig) (net.Listener, error) {
	if network == NetworkUnix {
		return listenUnix(addr, config)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%w %q: want host:port or :port: %w", ErrBadAddress, addr, err)
	}
	if network == NetworkWebsocket {
		network = NetworkTcp
	}
	ln, err := config.Listen(context.Background(), string(network), addr)
	switch {
	case err == nil:
		return ln, nil
	case atFault(err):
		return nil, fmt.Errorf("%w %q: %w", ErrBadAddress, addr, err)
	}
	return nil, fmt.Errorf("server: listen on %s %q: %w", network, addr, err)
}

// atFault reports whether listening failed because the address is none.
func atFault(err error) bool {
	var illegal *net.AddrError
	var unknown *net.DNSError
	return errors.As(err, &illegal) || errors.As(err, &unknown)
}

// listenUnix binds a path. A socket that nobody listens on is replaced; whatever else is there stays, and is an error.
func listenUnix(path string, config net.ListenConfig) (net.Listener, error) {
	if path == "" || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%w %q: want the path of a unix socket", ErrBadAddress, path)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("server: listen on unix %q: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %q is no socket (%s)", ErrNotDeadSocket, path, info.Mode())
	default:
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%w: %q: somebody listens there", ErrNotDeadSocket, path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("server: remove dead socket %q: %w", path, err)
		}
	}
	ln, err := config.Listen(context.Background(), "unix", path)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EINVAL): // as a path too long for a socket gives
		return nil, fmt.Errorf("%w %q: %w", ErrBadAddress, path, err)
	}
	return nil, fmt.Errorf("server: listen on unix %q: %w", path, err)
}

// patientListener waits and tries again where accepting fails for the moment: no descriptors, no memory, a peer that left.
type patientListener struct {
	net.Listener
	logger *slog.Logger
	closed chan struct{}
	once   sync.Once
}

const (
	firstAcceptPause = 5 * time.Millisecond
	longAcceptPause  = 500 * time.Millisecond
)

func (l *patientListener) Accept() (net.Conn, error) {
	for pause := firstAcceptPause; ; pause = min(2*pause, longAcceptPause) {
		conn, err := l.Listener.Accept()
		if err == nil {
			return keyable(conn), nil
		}
		if errors.Is(err, net.ErrClosed) || !passing(err) {
			return conn, err
		}
		if pause == firstAcceptPause || pause == longAcceptPause {
			l.logger.Warn("accept failed, trying again", "address", l.Addr().String(), "err", err, "pause", pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return nil, net.ErrClosed
		}
	}
}

// keyable returns conn as something that can be the key of a map: a pointer to it where somebody's listener has values that can't be
// compared.
func keyable(conn net.Conn) net.Conn {
	v := reflect.ValueOf(conn)
	if v.Comparable() {
		return conn
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p.Interface().(net.Conn)
}

func (l *patientListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// passing reports whether an accept error may go away by itself.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
