package server_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// fakeTransport is a transport of one's own: connections are whatever a test accepts.
type fakeTransport struct {
	listenErr error
	fatal     chan error
	closed    chan struct{}
	once      sync.Once
	acceptor  chan *server.Acceptor
	addrs     chan string
	linger    chan struct{} // keeps Serve after Close
}

func newFakeTransport() *fakeTransport {
	return &fakeTransport{
		fatal: make(chan error, 1), acceptor: make(chan *server.Acceptor, 1), addrs: make(chan string, 4),
	}
}

func (f *fakeTransport) Listen(addr string) error {
	f.closed, f.once = make(chan struct{}), sync.Once{}
	f.addrs <- addr
	return f.listenErr
}

func (f *fakeTransport) Addr() net.Addr { return &net.UnixAddr{Net: "mars", Name: "base"} }
func (f *fakeTransport) Close() error   { f.once.Do(func() { close(f.closed) }); return nil }
func (f *fakeTransport) Serve(acceptor *server.Acceptor) error {
	f.acceptor <- acceptor
	select {
	case err := <-f.fatal:
		return err
	case <-f.closed:
		if f.linger != nil {
			<-f.linger
		}
		return nil
	}
}

// fakeConn is a connection whose packets a test hands in, and that keeps what it is written.
type fakeConn struct {
	addr    net.Addr
	in      chan []byte
	written chan string
	codes   chan int
	closed  chan struct{}
	once    sync.Once
}

func newFakeConn(addr net.Addr) *fakeConn {
	return &fakeConn{
		addr: addr, in: make(chan []byte, 64), written: make(chan string, 64), codes: make(chan int, 1), closed: make(chan struct{}),
	}
}

func (f *fakeConn) ReadPacket() (int, []byte, error) {
	select {
	case packet := <-f.in:
		return 0, packet, nil
	case <-f.closed:
		return 0, nil, io.EOF
	}
}

func (f *fakeConn) WritePackets(packets []*server.Packet) (int, error) {
	for _, p := range packets {
		f.written <- string(p.Bytes())
	}
	return len(packets), nil
}

func (f *fakeConn) Shutdown(code int, _ string) error { f.codes <- code; return f.Close() }
func (f *fakeConn) Close() error                      { f.once.Do(func() { close(f.closed) }); return nil }
func (f *fakeConn) RemoteAddr() net.Addr              { return f.addr }

// serveCustom runs a server on a transport of one's own until the test's end.
func serveCustom(t *testing.T, opts ...server.Option) (*host, func(server.PacketConn)) {
	t.Helper()
	f := newFakeTransport()
	h := newHost(tcp, append(opts, server.WithTransport(f))...)
	h.addr = gwtest.Serve(t, h.Server, "mare tranquillitatis")
	assert.Equal(t, "mare tranquillitatis", <-f.addrs)
	acceptor := await(t, f.acceptor, "Serve")
	return h, acceptor.Accept
}

func TestWithTransport(t *testing.T) {
	h, accept := serveCustom(t)
	h.echo()
	assert.Equal(t, "base", h.addr)
	c := newFakeConn(&net.UnixAddr{Net: "mars", Name: "rover"})
	accept(c)
	conn := await(t, h.opened, "opened event")
	c.in <- []byte("hello")
	assert.Equal(t, "hello", await(t, c.written, "packet written"))
	conn.Close()
	assert.Equal(t, 1000, await(t, c.codes, "good-bye"))
	assert.Nil(t, h.end(t))
}

func TestWithTransportForAnyNetwork(t *testing.T) {
	f := newFakeTransport()
	h := newHost("kcp", server.WithTransport(f))
	gwtest.Serve(t, h.Server, "")
	assert.Equal(t, server.NetworkKcp, h.GetNetwork())
	await(t, f.acceptor, "Serve")
}

func TestTransportFails(t *testing.T) {
	broken := errors.New("no atmosphere")
	f := newFakeTransport()
	f.listenErr = broken
	h := newHost(tcp, server.WithTransport(f))
	assert.ErrorIs(t, h.Run("a"), broken)

	f.listenErr = nil
	ended := make(chan error, 1)
	go func() { ended <- h.Run("b") }()
	acceptor := await(t, f.acceptor, "Serve")
	c := newFakeConn(nil)
	acceptor.Accept(c)
	await(t, h.opened, "opened event")
	f.fatal <- broken
	assert.ErrorIs(t, await(t, ended, "end of Run"), broken)
	assert.Equal(t, 1001, await(t, c.codes, "good-bye"))
	assert.Equal(t, server.ErrGoingAway, h.end(t))

	// Late ones are closed, and counted.
	late := newFakeConn(nil)
	acceptor.Accept(late)
	await(t, late.closed, "close of a late connection")
	assert.EqualValues(t, 1, h.Stats().ConnectionsRefused)

	go func() { ended <- h.Run("c") }()
	await(t, f.acceptor, "Serve again")
	h.Shutdown()
	require.NoError(t, await(t, ended, "end of Run"))
}

// Run doesn't return before Serve has.
func TestRunJoinsTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeTransport()
		f.linger = make(chan struct{})
		h := newHost(tcp, server.WithTransport(f))
		ended := make(chan error, 1)
		go func() { ended <- h.Run("") }()
		<-f.acceptor
		h.Shutdown()
		synctest.Wait()
		assert.Empty(t, ended)
		close(f.linger)
		assert.NoError(t, <-ended)
	})
}

// A packet connection of one's own over any byte stream.
func TestNewStreamConn(t *testing.T) {
	h, accept := serveCustom(t)
	h.echo()
	near, far := net.Pipe()
	defer near.Close()
	accept(server.NewStreamConn(far, server.LineFramer(), 10))
	_, err := near.Write([]byte("hello\n"))
	require.NoError(t, err)
	answer := make([]byte, 6)
	_, err = io.ReadFull(near, answer)
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(answer))
	_, err = near.Write([]byte("more than ten"))
	require.NoError(t, err)
	assert.ErrorIs(t, h.endError(t), server.ErrPacketTooLarge)
}
