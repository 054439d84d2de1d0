package gwtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// Serve runs srv on addr until the test's end, and returns where it listens. Run has to return nil.
func Serve(t testing.TB, srv *server.Server, addr string) string {
	t.Helper()
	listening, ended := make(chan struct{}), make(chan error, 1)
	srv.RegMessageReadyEvent(func(*server.Server) { close(listening) })
	go func() { ended <- srv.Run(addr) }()
	select {
	case <-listening:
	case err := <-ended:
		require.NoError(t, err, "server ended before it listened")
	}
	t.Cleanup(func() {
		srv.Shutdown()
		assert.NoError(t, <-ended)
	})
	return srv.Addr().String()
}
