//go:build !noloops

package loop

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Conn is a connection of a loop.
type Conn struct {
	loop    *Loop
	handler Handler
	fd      int32

	dirty atomic.Bool // it waits for its flush

	enrolled      bool // owned by the loop's goroutine, as are the next
	closed, ended bool
	blocked       bool // the kernel took less than all
	taken         bool // the kernel took something since Taken was asked
	early         bool // Wake came before there was anything to flush
	leaving       bool // epoll has told of an end, or of an urgent byte, which may come behind something to be read, and ends a read
	more          bool // it is among those to be read again
}

// Init makes c, which is nobody's yet, a connection of handler's on l, which owns the descriptor fd from then on. Nothing happens
// before Enroll.
func (c *Conn) Init(l *Loop, fd int, handler Handler) {
	c.loop, c.handler, c.fd = l, handler, int32(fd)
}

// Abandon closes a connection that was not enrolled.
func (c *Conn) Abandon() { syscall.Close(int(c.fd)) }

// Enroll lets things happen. On a loop that was stopped, all that happens is End, on the caller's goroutine if the loop has ended.
func (c *Conn) Enroll() {
	if !c.loop.do(c.enroll, true) {
		c.enroll()
	}
}

func (c *Conn) enroll() {
	l, fd := c.loop, int(c.fd)
	if c.closed {
		return
	}
	defer c.recovered()
	if l.isStopped() {
		c.refuse(ErrStopped)
		return
	}
	e := c.interest()
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		c.refuse(os.NewSyscallError("epoll_ctl", err))
		return
	}
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, fd+1-len(l.conns)+len(l.conns)/4)...)
	}
	l.conns[fd], c.enrolled = c, true
	l.live++
	if c.early {
		c.Wake()
	}
	c.handler.Start()
}

func (c *Conn) refuse(err error) {
	c.closed, c.ended = true, true
	syscall.Close(int(c.fd))
	c.handler.End(err)
}

func (l *Loop) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.stopped.IsZero()
}

// recovered is deferred around everything that a handler does.
func (c *Conn) recovered() {
	if v := recover(); v != nil {
		c.handler.Panicked(v, debug.Stack())
	}
}

// Wake has Flush called at the end of the pass. It may be called from any goroutine.
func (c *Conn) Wake() {
	if !c.dirty.Swap(true) {
		c.loop.later(c)
	}
}

// Do has f, which is as good as one of the handler's methods, called on the loop's goroutine, unless the loop has ended. It may be
// called from any goroutine.
func (c *Conn) Do(f func()) {
	c.loop.do(func() {
		defer c.recovered()
		f()
	}, true)
}

func (c *Conn) flush() {
	c.dirty.Store(false)
	if c.early = !c.enrolled; c.early { // Start comes first
		return
	}
	if !c.closed && !c.blocked {
		defer c.recovered()
		c.handler.Flush()
	}
}

func (c *Conn) tick(now time.Time) {
	defer c.recovered()
	c.handler.Tick(now)
}

// read reads once. What it may have left, because there was no room for more or because the end comes behind it, is read in the
// next pass: epoll has told of it, and won't again. More at once, and a peer that floods would keep the loop for itself.
func (c *Conn) read() {
	buf := c.loop.buf
	n, errno := frame.Receive(int(c.fd), buf)
	switch {
	case errno == syscall.EAGAIN:
	case errno != 0:
		c.end(os.NewSyscallError("recv", errno))
	case n == 0:
		c.end(io.EOF)
	default:
		if (c.leaving || n == len(buf)) && !c.more {
			c.more = true
			c.loop.again = append(c.loop.again, c)
		}
		c.handler.Data(buf[:n])
	}
}

// readMore goes on where a read of the pass before has left something.
func (c *Conn) readMore() {
	defer c.recovered()
	if c.more = false; !c.ended {
		c.read()
	}
}

// end tells the handler that there is nothing to read any more.
func (c *Conn) end(err error) {
	if c.ended {
		return
	}
	c.ended = true
	defer c.recovered()
	c.handler.End(err)
}

// interest is what epoll looks for, and tells of once: when it begins. For as long as something can be read or written it would
// look at the connection again in each pass.
func (c *Conn) interest() syscall.EpollEvent {
	const edge = 1 << 31 // EPOLLET, which package syscall has as a negative number
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLPRI | syscall.EPOLLRDHUP | edge, Fd: c.fd}
	if c.blocked {
		e.Events |= syscall.EPOLLOUT
	}
	return e
}

// watch brings what epoll looks for up to date; what is the case by then it tells of too.
func (c *Conn) watch() {
	if !c.enrolled {
		return
	}
	e := c.interest()
	if err := syscall.EpollCtl(c.loop.epoll, syscall.EPOLL_CTL_MOD, int(c.fd), &e); err != nil {
		panic(fmt.Errorf("loop: descriptor %d: %w", c.fd, err))
	}
}

func (c *Conn) unblock() {
	c.blocked = false
	c.watch()
}

// WriteNow hands over as much of p as the kernel takes: less than all of it, and no error, if it takes no more; Flush comes when it
// does again.
func (c *Conn) WriteNow(p []byte) (n int, err error) {
	if c.closed {
		return 0, os.ErrClosed
	}
	for n < len(p) {
		m, errno := frame.Send(int(c.fd), p[n:])
		switch errno {
		case 0:
			n += m
			c.taken = true
		case syscall.EAGAIN:
			if !c.blocked {
				c.blocked = true
				c.watch()
			}
			return n, nil
		default:
			return n, os.NewSyscallError("send", errno)
		}
	}
	return n, nil
}

// Blocked reports whether the kernel took less than all, and takes no more yet.
func (c *Conn) Blocked() bool { return c.blocked }

// Taken reports whether the kernel took anything since it was last asked: a peer that reads slowly is not one that is stuck.
func (c *Conn) Taken() bool {
	taken := c.taken
	c.taken = false
	return taken
}

// Closed reports whether Close was called.
func (c *Conn) Closed() bool { return c.closed }

// CloseWrite ends the stream from this side.
func (c *Conn) CloseWrite() error {
	if c.closed {
		return os.ErrClosed
	}
	return os.NewSyscallError("shutdown", syscall.Shutdown(int(c.fd), syscall.SHUT_WR))
}

// Close closes the descriptor. Closing again does nothing.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed, c.ended = true, true
	if c.enrolled {
		c.loop.conns[c.fd] = nil
		c.loop.live--
	}
	syscall.Close(int(c.fd)) // which takes it out of epoll: it is the only one of its socket
}

// Detach takes the descriptor away from conn, a plain socket, and closes conn. That takes a copy: without descriptors, or with another
// error, conn is as it was.
func Detach(conn net.Conn) (fd int, err error) {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("loop: %T is no plain socket", conn)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	var errno syscall.Errno
	var copied uintptr
	err = raw.Control(func(fd uintptr) {
		copied, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	switch {
	case err != nil:
		return -1, err
	case errno != 0:
		return -1, os.NewSyscallError("fcntl", errno)
	}
	conn.Close()
	return int(copied), nil
}
