//go:build !race

package client_test

import (
	"bytes"
	"io"
	"math"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/server"
)

// What a small packet costs there and back: it is borrowed, masked or marked where it is gathered, and what comes back shares memory with
// its neighbours. There is no such test under the race detector, which allocates.
func TestPathAllocations(t *testing.T) {
	const batch, size = 100, 32
	payload := make([]byte, size)
	for _, tt := range transports {
		t.Run(tt.name, func(t *testing.T) {
			frameSize, reply := len(framed(string(payload))), bytes.Repeat(framed(string(payload)), batch)
			if tt.network == server.NetworkWebsocket {
				frameSize, reply = 2+4+size, bytes.Repeat(wsframe.Append(nil, frame.KindBinary, payload), batch)
			}
			c := tt.client(answersBatches(t, tt.network, batch*frameSize, reply))
			back := make(chan struct{}, batch)
			c.RegConnectionReceivePacketEvent(func(*client.Client, int, []byte) { back <- struct{}{} })
			require.NoError(t, c.Run())
			defer c.Abort(nil) // nobody answers a close frame
			roundTrips := func() error {
				for range batch {
					p := frame.BorrowPacket(frame.KindNone, payload)
					if err := c.Enqueue(p); err != nil {
						return err
					}
				}
				for range batch {
					<-back
				}
				return nil
			}
			least := math.Inf(1)
			for range 3 { // what else the process does, or a pool that was emptied, can only add to it
				each, err := gwtest.Mallocs(200, roundTrips)
				require.NoError(t, err)
				least = min(least, each/batch)
			}
			t.Logf("%.3f allocations a packet, there and back", least)
			assert.LessOrEqual(t, least, 0.1)
		})
	}
}

// answersBatches sends reply for each size bytes that come, and allocates nothing for that.
func answersBatches(t *testing.T, network server.Network, size int, reply []byte) string {
	kind, addr := "tcp", "127.0.0.1:0"
	if network == server.NetworkUnix {
		kind, addr = "unix", filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(kind, addr)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := ln.Accept()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		r := io.Reader(conn)
		if network == server.NetworkWebsocket {
			r = answerWith(t, conn, "", nil)
		}
		for buf := make([]byte, size); ; {
			if _, err := io.ReadFull(r, buf); err != nil {
				return
			}
			if _, err := conn.Write(reply); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-ended })
	return ln.Addr().String()
}
