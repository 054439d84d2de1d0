package main

import (
	"syscall"
	"time"
)

const (
	longest = 20 * time.Millisecond // so that the end of the load is noticed
	coarse  = 2 * time.Millisecond
)

// pause waits for d, or less. The runtime's timers are late by up to a millisecond when there is nothing else to do
// (epoll_wait counts in those), which would be measured as latency; the kernel's are by a twentieth of that.
func pause(d time.Duration) {
	if d = min(d, longest); d > coarse {
		time.Sleep(d - coarse)
		return
	}
	spec := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&spec, nil) // a signal ends it early, and then it is called again
}
