package server_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/server"
)

// sickListener fails to accept as long as errs has something to fail with.
type sickListener struct {
	*pipeListener
	errs chan error
}

func (l *sickListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: os.NewSyscallError("accept4", err)}
	default:
		return l.pipeListener.Accept()
	}
}

func serveSick(t *testing.T, network string, errs ...error) (*host, <-chan error, *logs) {
	t.Helper()
	l, logger := newLogs()
	h := newHost(network, logger).echo()
	h.pipes = newPipeListener()
	sick := &sickListener{h.pipes, make(chan error, len(errs))}
	for _, err := range errs {
		sick.errs <- err
	}
	server.Over(h.Server, sick)
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.Run("") }()
	t.Cleanup(h.Shutdown)
	return h, h.ended, l
}

// Out of descriptors, the server waits and tries again; nobody who is connected is lost.
func TestAcceptSurvives(t *testing.T) {
	passing := []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR, syscall.EMFILE,
		syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE,
	}
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h, ended, l := serveSick(t, network, passing...)
			begun := time.Now()
			p, _ := h.dial(t)
			p.Write(text, []byte("hello"))
			p.Expect(text, []byte("hello"))
			waited := time.Since(begun)
			// 5 ms, doubled up to half a second.
			assert.Equal(t, (5+10+20+40+80+160+320+5*500)*time.Millisecond, waited)
			assert.Contains(t, l.expect(t, slog.LevelWarn, "accept failed"), "too many open files")
			p.Cut()
			h.Shutdown()
			assert.NoError(t, <-ended)
		})
	}
}

func TestShutdownWhileAcceptFails(t *testing.T) {
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h, ended, l := serveSick(t, network)
			synctest.Wait()
			h.Shutdown()
			assert.NoError(t, <-ended)
			assert.Empty(t, l.lines)
		})
		synctest.Test(t, func(t *testing.T) {
			h, ended, l := serveSick(t, network, syscall.EMFILE, syscall.EMFILE, syscall.EMFILE)
			l.expect(t, slog.LevelWarn, "accept failed")
			synctest.Wait()
			begun := time.Now()
			h.Shutdown()
			assert.NoError(t, <-ended)
			assert.Zero(t, time.Since(begun))
		})
	}
}

// Any other error is fatal: Run returns it, and ends the connections first.
func TestAcceptFails(t *testing.T) {
	broken := errors.New("the network is gone")
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h, ended, _ := serveSick(t, network, broken)
			assert.ErrorIs(t, <-ended, broken)
			require.Nil(t, h.Addr())
		})
	}
}
