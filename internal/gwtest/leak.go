// Package gwtest is what the tests of all packages share beside gatewaytest: a leak check, servers that run for as long as a test,
// and what measures.
package gwtest

import "go.uber.org/goleak"

// Main runs a package's tests and fails if a goroutine is left afterwards.
func Main(m interface{ Run() int }) { goleak.VerifyTestMain(m) }
