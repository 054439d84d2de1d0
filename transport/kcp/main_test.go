package kcp_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const patience = 20 * time.Second // before a test gives up on something that has to happen

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestMain fails if a goroutine is left. Those of kcp-go's one scheduler start when it is imported, and never end.
func TestMain(m *testing.M) {
	const scheduler = "github.com/xtaci/kcp-go/v5.(*TimedSched)."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(scheduler+"sched"), goleak.IgnoreAnyFunction(scheduler+"prepend"))
}
