//go:build !noloops

package loop

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Supported reports whether there are loops.
const Supported = true

const (
	maxEvents  = 256      // of one pass
	readBuffer = 64 << 10 // of a loop

	stopPatience = time.Second
)

// Loop waits for its connections on one goroutine.
type Loop struct {
	epoll, event int // descriptors; static
	done         chan struct{}

	conns    []*Conn // by descriptor; owned by the loop's goroutine, as are the next ones up to live
	buf      []byte
	events   []syscall.EpollEvent
	doing    []func()
	flushing []*Conn
	again    []*Conn // of which something may be left to read
	rereads  []*Conn // again's, of this pass
	ticked   time.Time
	late     bool // a tick was put off
	live     int

	mu      sync.Mutex // guards the rest
	tasks   []func()
	dirty   []*Conn   // to be flushed at the end of the pass
	awake   bool      // the loop looks at the two above before it waits again
	stopped time.Time // when that was, zero: it wasn't
	ended   bool      // the loop looks at nothing any more
	signals sync.WaitGroup
}

// New starts a loop.
func New() (*Loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		syscall.Close(epoll)
		return nil, os.NewSyscallError("eventfd2", errno)
	}
	l := &Loop{
		epoll: epoll, event: int(event), done: make(chan struct{}), awake: true, ticked: time.Now(),
		buf: make([]byte, readBuffer), events: make([]syscall.EpollEvent, maxEvents),
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(l.event)}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, l.event, &e); err != nil {
		l.closeDescriptors()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	go l.run()
	return l, nil
}

func (l *Loop) closeDescriptors() {
	syscall.Close(l.epoll)
	syscall.Close(l.event)
}

// Stop lets no more connections in, gives those that are there a second to end, ends them with ErrStopped, and then the loop. It
// returns at once; Done is closed when the loop has ended.
func (l *Loop) Stop() {
	l.mu.Lock()
	if l.stopped.IsZero() {
		l.stopped = time.Now()
	}
	wake := l.wakeLocked()
	l.mu.Unlock()
	if wake {
		l.signal()
	}
}

// Done is closed when the loop has ended.
func (l *Loop) Done() <-chan struct{} { return l.done }

// Do has f called on the loop's goroutine, and reports false if the loop has been stopped.
func (l *Loop) Do(f func()) bool { return l.do(f, false) }

// do is Do. late: stopped or not, as long as the loop has not ended.
func (l *Loop) do(f func(), late bool) bool {
	l.mu.Lock()
	if l.ended || !l.stopped.IsZero() && !late {
		l.mu.Unlock()
		return false
	}
	l.tasks = append(l.tasks, f)
	wake := l.wakeLocked()
	l.mu.Unlock()
	if wake {
		l.signal()
	}
	return true
}

// wakeLocked reports whether the loop has to be signalled. The loop keeps its descriptors until that was done: later their numbers
// may be somebody else's.
func (l *Loop) wakeLocked() bool {
	wake := !l.awake
	l.awake = true
	if wake {
		l.signals.Add(1)
	}
	return wake
}

// later has c flushed at the end of the pass.
func (l *Loop) later(c *Conn) {
	l.mu.Lock()
	l.dirty = append(l.dirty, c)
	wake := l.wakeLocked()
	l.mu.Unlock()
	if wake {
		l.signal()
	}
}

func (l *Loop) signal() {
	defer l.signals.Done()
	one := [8]byte{1}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.event), uintptr(unsafe.Pointer(&one)), 8) // a full counter wakes as well
}

// FlushNow flushes connections before the pass ends. It is for the loop's own goroutine.
func (l *Loop) FlushNow() {
	l.mu.Lock()
	dirty := l.dirty
	l.dirty = nil
	l.mu.Unlock()
	for _, c := range dirty {
		c.flush()
	}
}

func (l *Loop) run() {
	defer close(l.done)
	defer l.closeDescriptors()
	defer l.signals.Wait()
	for idle := false; ; {
		n := l.wait(idle)
		l.rereads, l.again = l.again, l.rereads[:0]
		for i := range l.events[:n] {
			l.handle(&l.events[i])
		}
		for _, c := range l.rereads {
			c.readMore()
		}
		clear(l.rereads)
		busy, stopped := l.finishPass()
		if !stopped.IsZero() && (l.live == 0 || time.Since(stopped) > stopPatience) && l.leave() {
			l.endAll()
			return
		}
		idle = n == 0 && !busy && len(l.again) == 0
		l.tick()
	}
}

// finishPass does what others have asked for, and flushes connections, once: what that brings about is the next pass's. busy: there
// was something to do.
func (l *Loop) finishPass() (busy bool, stopped time.Time) {
	l.mu.Lock()
	l.doing, l.tasks = l.tasks, l.doing[:0]
	l.flushing, l.dirty = l.dirty, l.flushing[:0]
	busy, stopped = len(l.doing)+len(l.flushing) > 0, l.stopped
	l.awake = busy
	l.mu.Unlock()
	for _, f := range l.doing {
		f()
	}
	for _, c := range l.flushing {
		c.flush()
	}
	clear(l.doing)
	clear(l.flushing)
	return busy, stopped
}

// leave ends the loop for others, and reports false while it has something to do for them.
func (l *Loop) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = len(l.tasks) == 0
	l.awake = true
	return l.ended
}

// wait returns how many events there are. Before it waits it looks, twice if it has been idle: who is about to send may do so first.
func (l *Loop) wait(idle bool) int {
	n := l.poll()
	if n == 0 && idle {
		runtime.Gosched()
		if n = l.poll(); n == 0 {
			n = l.sleep()
		}
	}
	if n > 0 {
		l.mu.Lock()
		l.awake = true // until the pass ends
		l.mu.Unlock()
	}
	return n
}

// sleep waits for events, or the next tick.
func (l *Loop) sleep() int {
	timeout := time.Hour
	if l.live > 0 {
		timeout = max(time.Until(l.ticked.Add(TickInterval)), 0)
	}
	n, err := syscall.EpollWait(l.epoll, l.events, int(timeout/time.Millisecond)+1)
	if err != nil && err != syscall.EINTR {
		panic(os.NewSyscallError("epoll_wait", err)) // the descriptor is ours alone
	}
	return max(n, 0)
}

func (l *Loop) poll() int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), maxEvents, 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (l *Loop) handle(e *syscall.EpollEvent) {
	fd := int(e.Fd)
	if fd == l.event {
		var count [8]byte
		_, _, _ = syscall.RawSyscall(syscall.SYS_READ, uintptr(l.event), uintptr(unsafe.Pointer(&count)), 8)
		return
	}
	if fd >= len(l.conns) || l.conns[fd] == nil {
		return // closed in this pass
	}
	c := l.conns[fd]
	defer c.recovered()
	if e.Events&^syscall.EPOLLOUT != 0 && !c.ended {
		c.leaving = c.leaving || e.Events&^(syscall.EPOLLIN|syscall.EPOLLOUT) != 0
		c.read()
	}
	if e.Events&syscall.EPOLLOUT != 0 && !c.closed && c.blocked {
		c.unblock()
		c.handler.Flush()
	}
}

func (l *Loop) tick() {
	now := time.Now()
	if now.Sub(l.ticked) < TickInterval {
		return
	}
	late := now.Sub(l.ticked) > 2*TickInterval
	if l.ticked = now; late && !l.late { // what has come meanwhile is read first
		l.late = true
		return
	}
	l.late = false
	for _, c := range l.conns {
		if c != nil {
			c.tick(now)
		}
	}
}

// endAll ends what is left when the loop stops.
func (l *Loop) endAll() {
	for _, c := range l.conns {
		if c != nil {
			c.end(ErrStopped)
		}
	}
	for _, c := range l.conns {
		if c != nil { // whose handler did not
			c.Close()
		}
	}
}
