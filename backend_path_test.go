package gateway_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/gatewaytest"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// What a backend's handlers write gathers for one write, but not while one of them takes its time, nor where a callback waits.
func TestBackendWritesWhileItsHandlerRuns(t *testing.T) {
	for name, write := range map[string]func(conn *server.Conn, wrote chan<- error){
		"silently": func(conn *server.Conn, _ chan<- error) { conn.Write([]byte("now")) },
		"with a callback": func(conn *server.Conn, wrote chan<- error) {
			conn.Write([]byte("now"), func(err error) { wrote <- err })
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := server.New(server.NetworkTcp, server.WithLogger(quiet))
			gateway.NewBackend(srv, gateway.WithBackendLogger(quiet))
			release, wrote := make(chan struct{}), make(chan error, 1)
			srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, _ []byte) {
				write(conn, wrote)
				if name == "with a callback" {
					assert.NoError(t, <-wrote)
				}
				<-release
			})
			p := &linkPath{}
			p.dial(t, gwtest.Serve(t, srv, "127.0.0.1:0"))
			defer close(release)
			p.send(t, framedControl(open, openBodyFor(keyA)))
			p.send(t, gwtest.Framed(append([]byte{0xDE, 0xAD, 0xBE, 0xEF}, keyA...)))
			require.NoError(t, p.link.SetDeadline(time.Now().Add(patience)))
			got := make([]byte, 4+10+3)
			_, err := io.ReadFull(p.link, got)
			require.NoError(t, err)
			assert.Equal(t, keyA, got[4:10])
			assert.Equal(t, "now", string(got[14:]))
		})
	}
}

// A link that only clients' packets come over is not silent, and is when none come any more.
func TestBusyGatewayIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		l := newRawLink(t, net, "a")
		l.control(hello, helloBody(1, 1, 9, nil))
		l.control(open, openBodyFor(keyA))
		for range 10 {
			time.Sleep(5 * time.Second)
			l.Write(append([]byte{0xDE, 0xAD, 0xBE, 0xEF}, keyA...))
		}
		synctest.Wait()
		time.Sleep(9900 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 1, h.Links())
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		assert.Zero(t, h.Links())
		l.Close()
		stop()
	})
}

// Packets of a client find the session that is open now, and none behind its end. Nothing is kept of those that have left.
func TestPacketsAroundTheEndOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := gatewaytest.NewNetwork()
		h, stop := runMemHost(t, net, "a")
		var last *server.Conn
		h.srv.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, _ []byte) { last = conn })
		l := newRawLink(t, net, "a")
		send := func(wantGot int64, wantStray uint64) {
			t.Helper()
			l.Write(append([]byte{0xDE, 0xAD, 0xBE, 0xEF}, keyA...))
			synctest.Wait()
			assert.EqualValues(t, wantGot, h.got.Load())
			assert.Equal(t, wantStray, h.Stats().StrayData)
		}
		l.control(hello, helloBody(1, 1, 9, nil))
		send(0, 1)
		l.control(open, openBody(keyA, 1, 0))
		send(1, 1)
		send(2, 1)
		first := last
		l.control(open, openBody(keyA, 2, 0)) // the CLOSE between them was lost
		send(3, 1)
		assert.True(t, first.IsClosed())
		assert.False(t, last.IsClosed())
		last.Close()
		send(3, 2)
		l.control(closeOf, append(append([]byte{}, keyA...), 0, 0, 0, 2, 0))
		send(3, 3)
		assert.Zero(t, gateway.RememberedClients(h.Backend))
		l.control(open, openBody(keyA, 3, 0))
		send(4, 3)
		assert.Equal(t, 1, gateway.RememberedClients(h.Backend))
		l.control(closeOf, append(append([]byte{}, keyA...), 0, 0, 0, 3, 0))
		synctest.Wait()
		assert.Zero(t, gateway.RememberedClients(h.Backend))
		l.Close()
		stop()
	})
}
