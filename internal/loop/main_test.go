//go:build linux && !noloops

package loop_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/minotaur-gateway/gateway/internal/loop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // before a test gives up on something that has to happen

var networks = []string{"tcp", "unix"}

// await receives from ch, and fails the test if nothing comes.
func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		buf := make([]byte, 1<<16)
		require.FailNow(t, "no "+what, string(buf[:runtime.Stack(buf, true)]))
		panic("not reached")
	}
}

// start runs a loop until the test's end.
func start(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.New()
	require.NoError(t, err)
	t.Cleanup(func() { l.Stop(); await(t, l.Done(), "end of the loop") })
	return l
}

// spy is a handler that does what a test wants: nothing but closing at the end where it wants nothing.
type spy struct {
	loop.Conn
	start, flush func()
	data         func(p []byte)
	end          func(err error)
	tick         func()
	panicked     func(value any)

	ended  chan error // what End got
	panics chan any   // what Panicked got
}

func newSpy() *spy { return &spy{ended: make(chan error, 4), panics: make(chan any, 4)} }

func (s *spy) Start() {
	if s.start != nil {
		s.start()
	}
}

func (s *spy) Data(p []byte) {
	if s.data != nil {
		s.data(p)
	}
}

func (s *spy) Flush() {
	if s.flush != nil {
		s.flush()
	}
}

func (s *spy) Tick(time.Time) {
	if s.tick != nil {
		s.tick()
	}
}

func (s *spy) End(err error) {
	s.ended <- err
	if s.end != nil {
		s.end(err)
		return
	}
	s.Close()
}

func (s *spy) Panicked(value any, _ []byte) {
	s.panics <- value
	if s.panicked != nil {
		s.panicked(value)
		return
	}
	s.Close()
}

// on makes s the handler of fd, and enrolls it.
func (s *spy) on(l *loop.Loop, fd int) *spy {
	s.Init(l, fd, s)
	s.Enroll()
	return s
}

// do runs f on the loop's goroutine, and waits for it.
func do(t testing.TB, l *loop.Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	require.True(t, l.Do(func() { f(); close(done) }))
	await(t, done, "call on the loop")
}

// sockets connects two sockets.
func sockets(t testing.TB, network string) (near, far net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	defer ln.Close()
	near, err = net.Dial(network, ln.Addr().String())
	require.NoError(t, err)
	far, err = ln.Accept()
	require.NoError(t, err)
	require.NoError(t, far.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { far.Close() })
	return near, far
}

// pair connects a descriptor for a loop, and its peer.
func pair(t testing.TB, network string) (fd int, far net.Conn) {
	t.Helper()
	near, far := sockets(t, network)
	fd, err := loop.Detach(near)
	require.NoError(t, err)
	return fd, far
}

// descriptors returns how many are open.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}

// reuse opens a socket whose descriptor is number, which is free, and returns its peer.
func reuse(t testing.TB, number int) (fd int, far net.Conn) {
	t.Helper()
	for {
		ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { syscall.Close(ends[0]); syscall.Close(ends[1]) })
		if ends[1] == number {
			ends[0], ends[1] = ends[1], ends[0]
		}
		if ends[0] == number {
			return number, connOf(t, ends[1])
		}
		require.Less(t, min(ends[0], ends[1]), number, "the number is taken") // the kernel gives the lowest ones that are free
	}
}

// connOf returns a connection of its own for the socket fd.
func connOf(t testing.TB, fd int) net.Conn {
	t.Helper()
	copied, err := syscall.Dup(fd)
	require.NoError(t, err)
	file := os.NewFile(uintptr(copied), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// requireUntouched fails the test if anything but "mine", which it writes to fd, reaches far, or fd was closed.
func requireUntouched(t testing.TB, fd int, far net.Conn) {
	t.Helper()
	n, err := syscall.Write(fd, []byte("mine"))
	require.NoError(t, err, "the descriptor was closed")
	require.Equal(t, 4, n)
	require.NoError(t, syscall.Shutdown(fd, syscall.SHUT_WR))
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Equal(t, "mine", string(got))
}
