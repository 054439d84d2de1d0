//go:build !linux

package main

import "time"

// pause waits for d, or less: the end of the load has to be noticed.
func pause(d time.Duration) { time.Sleep(min(d, 20*time.Millisecond)) }
