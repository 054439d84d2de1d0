//go:build unix

package frame_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// pair returns the ends of a connection.
func pair(t testing.TB, network string) (near, far net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	defer ln.Close()
	near, err = net.Dial(network, ln.Addr().String())
	require.NoError(t, err)
	far, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// room notes what a Socket does with it. idle gets a value each time before the Socket waits.
type room struct {
	buf    [64]byte
	events []string
	idle   chan struct{}
}

func newRoom() *room { return &room{idle: make(chan struct{}, 100)} }

func (r *room) Take() []byte { r.events = append(r.events, "take"); return r.buf[:] }
func (r *room) Idle()        { r.events = append(r.events, "idle"); r.idle <- struct{}{} }

type readResult struct {
	n   int
	err error
}

// readLater reads on a goroutine, and returns once it waits.
func readLater(s *frame.Socket, r *room) <-chan readResult {
	got := make(chan readResult, 1)
	go func() {
		n, err := s.Read(r)
		got <- readResult{n, err}
	}()
	<-r.idle
	return got
}

var socketNetworks = []string{"tcp", "unix"}

// What a read takes to read to is taken when there may be something to be read, and let go of before it waits.
func TestSocketReadHoldsNothingWhileItWaits(t *testing.T) {
	for _, network := range socketNetworks {
		t.Run(network, func(t *testing.T) {
			near, far := pair(t, network)
			s, r := frame.SocketOf(near), newRoom()
			require.NotNil(t, s)
			got := readLater(s, r)
			_, err := far.Write([]byte("hello"))
			require.NoError(t, err)
			assert.Equal(t, readResult{5, nil}, <-got)
			assert.Equal(t, "hello", string(r.buf[:5]))
			require.Zero(t, len(r.events)%2-1, "%v", r.events)
			for i, event := range r.events { // it may be woken for nothing
				assert.Equal(t, []string{"take", "idle"}[i%2], event)
			}
		})
	}
	t.Run("what is there is read at once", func(t *testing.T) {
		near, far := pair(t, "unix")
		s, r := frame.SocketOf(near), newRoom()
		_, err := far.Write([]byte("there"))
		require.NoError(t, err)
		n, err := s.Read(r)
		require.NoError(t, err)
		assert.Equal(t, "there", string(r.buf[:n]))
		assert.Equal(t, []string{"take"}, r.events)
	})
}

// As much as there is room for is read, and the rest by the next call.
func TestSocketReadInParts(t *testing.T) {
	near, far := pair(t, "unix")
	s, r := frame.SocketOf(near), newRoom()
	want := bytes.Repeat([]byte("0123456789"), 10)
	_, err := far.Write(want)
	require.NoError(t, err)
	var got []byte
	for len(got) < len(want) {
		n, err := s.Read(r)
		require.NoError(t, err)
		got = append(got, r.buf[:n]...)
	}
	assert.Equal(t, want, got)
	assert.Equal(t, []string{"take", "take"}, r.events)
}

func TestSocketReadDeadline(t *testing.T) {
	for _, network := range socketNetworks {
		t.Run(network, func(t *testing.T) {
			near, far := pair(t, network)
			s, r := frame.SocketOf(near), newRoom()
			got := readLater(s, r)
			require.NoError(t, near.SetReadDeadline(time.Unix(1, 0)))
			result := <-got
			assert.ErrorIs(t, result.err, os.ErrDeadlineExceeded)
			assert.Zero(t, result.n)
			assert.Equal(t, "idle", r.events[len(r.events)-1], "nothing is held")
			before := len(r.events)
			_, err := s.Read(r)
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.Len(t, r.events, before, "a deadline that has passed takes nothing")

			require.NoError(t, near.SetReadDeadline(time.Time{}))
			_, err = far.Write([]byte("x"))
			require.NoError(t, err)
			n, err := s.Read(r)
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
		})
	}
}

func TestSocketReadEnds(t *testing.T) {
	cases := []struct {
		name string
		end  func(near, far net.Conn)
		want error
	}{
		{"the peer ends the stream", func(_, far net.Conn) { far.(interface{ CloseWrite() error }).CloseWrite() }, io.EOF},
		{"the peer closes", func(_, far net.Conn) { far.Close() }, io.EOF},
		{"closed on this side", func(near, _ net.Conn) { near.Close() }, net.ErrClosed},
		{"reset", func(_, far net.Conn) {
			if tcp, ok := far.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			far.Close()
		}, syscall.ECONNRESET},
	}
	for _, network := range socketNetworks {
		for _, tt := range cases {
			if network == "unix" && tt.want == syscall.ECONNRESET {
				continue // it has none
			}
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				near, far := pair(t, network)
				s, r := frame.SocketOf(near), newRoom()
				got := readLater(s, r)
				tt.end(near, far)
				result := <-got
				assert.ErrorIs(t, result.err, tt.want)
				assert.Zero(t, result.n)
				if tt.want == io.EOF {
					assert.Equal(t, io.EOF, result.err, "as it is: it is compared")
				}
				n, err := s.Read(r)
				assert.Error(t, err, "and again")
				assert.Zero(t, n)
			})
		}
	}
}

// What the peer sent before its end is read before the end.
func TestSocketReadsToTheEnd(t *testing.T) {
	near, far := pair(t, "tcp")
	_, err := far.Write([]byte("last words"))
	require.NoError(t, err)
	far.Close()
	s, r := frame.SocketOf(near), newRoom()
	n, err := s.Read(r)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(r.buf[:n]))
	_, err = s.Read(r)
	assert.Equal(t, io.EOF, err)
}

func TestSocketOf(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	assert.Nil(t, frame.SocketOf(near), "a pipe")
	assert.Nil(t, frame.SocketOf(&scriptConn{}), "somebody's own")
	tcp, _ := pair(t, "tcp")
	assert.NotNil(t, frame.SocketOf(tcp))
	assert.Nil(t, frame.SocketOf(struct{ net.Conn }{tcp}), "one that is wrapped")
}
