package client

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
)

// upgradeConn is a connection on which a WebSocket is asked for. It hands out one line at a time, so that who reads the head of the
// answer leaves what is behind it, which may have come in the same segment, for the connection's user.
type upgradeConn struct {
	net.Conn             // TLS from the request on, if that is wanted
	config   *tls.Config // nil: it isn't, or there is TLS already
	read     *bufio.Reader
}

func newUpgradeConn(conn net.Conn, config *tls.Config) *upgradeConn {
	return &upgradeConn{Conn: conn, config: config, read: bufio.NewReader(conn)}
}

// Read returns a line, or as much of it as there is.
func (u *upgradeConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := u.read.Peek(1); err != nil {
		return 0, err
	}
	line := u.early()
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end+1]
	}
	n := copy(p, line)
	_, err := u.read.Discard(n)
	return n, err
}

// Write begins TLS before the request: what was written before was for a proxy.
func (u *upgradeConn) Write(p []byte) (int, error) {
	if u.config != nil && bytes.HasPrefix(p, []byte("GET ")) {
		u.Conn, u.config = tls.Client(u.Conn, u.config), nil
		u.read.Reset(u.Conn)
	}
	return u.Conn.Write(p)
}

// early returns what was read and not handed out.
func (u *upgradeConn) early() []byte {
	p, _ := u.read.Peek(u.read.Buffered()) // all of it is there
	return p
}
