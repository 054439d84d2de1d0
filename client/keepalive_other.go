//go:build !linux

package client

import "syscall"

// limitUnacknowledged does nothing: keepalive alone has to notice.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
