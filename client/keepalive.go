package client

import (
	"net"
	"time"
)

// newDialer returns a dialer whose TCP connections notice within some 15 seconds that the other host is gone, idle or not.
func newDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2},
		Control:         limitUnacknowledged,
	}
}
