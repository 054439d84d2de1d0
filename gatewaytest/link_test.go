package gatewaytest_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/gatewaytest"
)

// The errors of both ends are those of a socket.
func TestLinkErrors(t *testing.T) {
	cases := []struct {
		name                  string
		end                   func(near, far net.Conn, cut func())
		read, write, deadline error // at the near end
	}{
		{"closed here", func(near, _ net.Conn, _ func()) { near.Close() }, net.ErrClosed, net.ErrClosed, net.ErrClosed},
		{"closed there", func(_, far net.Conn, _ func()) { far.Close() }, io.EOF, syscall.EPIPE, nil},
		{"cut", func(_, _ net.Conn, cut func()) { cut() }, syscall.ECONNRESET, syscall.ECONNRESET, nil},
		{"cut and closed here", func(near, _ net.Conn, cut func()) { cut(); near.Close() }, net.ErrClosed, net.ErrClosed, net.ErrClosed},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			near, far, cut := gatewaytest.Pair()
			defer near.Close()
			defer far.Close()
			tt.end(near, far, cut)
			_, err := near.Read(make([]byte, 1))
			assert.ErrorIs(t, err, tt.read)
			_, err = near.Write([]byte("x"))
			assert.ErrorIs(t, err, tt.write)
			if err = near.SetDeadline(time.Time{}); tt.deadline != nil {
				assert.ErrorIs(t, err, tt.deadline)
			} else {
				assert.NoError(t, err)
			}
			assert.NoError(t, near.Close(), "closing again")
		})
	}
}

func TestLinkHalfClosed(t *testing.T) {
	near, far, _ := gatewaytest.Pair()
	defer near.Close()
	defer far.Close()
	require.NoError(t, near.(interface{ CloseWrite() error }).CloseWrite())
	_, err := far.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
	go func() { _, _ = far.Write([]byte("still there")) }()
	got := make([]byte, 11)
	_, err = io.ReadFull(near, got)
	assert.NoError(t, err)
	assert.Equal(t, "still there", string(got))
	assert.Equal(t, "near", near.LocalAddr().String())
	assert.Equal(t, "far", near.RemoteAddr().String())
	assert.Equal(t, "near", far.RemoteAddr().String())
}

func TestLinkDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _ := gatewaytest.Pair()
		defer near.Close()
		defer far.Close()
		begun := time.Now()
		require.NoError(t, near.SetReadDeadline(begun.Add(time.Second)))
		_, err := near.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begun))
		require.NoError(t, near.SetWriteDeadline(begun.Add(time.Minute)))
		_, err = near.Write([]byte("x"))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.Equal(t, time.Minute, time.Since(begun))
	})
}
