package frame_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

const packetTimeout = 10 * time.Second

// A packet has so long from its first byte on, whatever of it drips in.
func TestReaderTimeout(t *testing.T) {
	cases := []struct {
		name  string
		begin []byte        // comes at once
		every time.Duration // then another byte; 0: nothing
	}{
		{"silence in a head", announce(100)[:2], 0},
		{"silence after a head", announce(100), 0},
		{"dripping", announce(100), time.Second},
		{"dripping behind a whole packet", append(framed(t, frame.Default(), "whole"), announce(100)...), time.Second},
		{"dripping from the first byte on", announce(100)[:1], 9 * time.Second},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near := drip(t, tt.begin, tt.every)
				r := frame.NewReader(near, frame.Default(), 100, packetTimeout, 0)
				begun := time.Now()
				packet, err := r.Next()
				if string(packet) == "whole" {
					require.NoError(t, err)
					_, err = r.Next()
				}
				require.ErrorIs(t, err, frame.ErrPacketTimeout)
				assert.ErrorContains(t, err, "10s")
				assert.Equal(t, packetTimeout, time.Since(begun))
			})
		})
	}
}

// drip returns a connection on which begin comes at once, and then a byte at a time until the end of the test.
func drip(t *testing.T, begin []byte, every time.Duration) net.Conn {
	near, far := net.Pipe()
	quit, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(quit); near.Close(); far.Close(); <-done })
	go func() {
		defer close(done)
		_, err := far.Write(begin)
		var tick <-chan time.Time
		if every > 0 {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			tick = ticker.C
		}
		for err == nil {
			select {
			case <-tick:
				_, err = far.Write([]byte{0})
			case <-quit:
				return
			}
		}
	}()
	return near
}

// Between packets there is all the time in the world, and each packet has its own.
func TestReaderTimeoutIsForPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		written := make(chan struct{})
		go func() {
			defer close(written)
			defer far.Close()
			for range 5 {
				<-time.After(time.Hour)
				for _, b := range framed(t, frame.Default(), "a", "bc") {
					_, _ = far.Write([]byte{b})
					<-time.After(time.Second) // 5 and 6 bytes, 11 s in all
				}
			}
		}()
		r := frame.NewReader(near, frame.Default(), 100, packetTimeout, 0)
		for range 5 {
			expect(t, r, "a", "bc")
		}
		<-written
	})
}

// Two packets that come in three parts: the second one's time begins when it is its turn.
func TestReaderTimeoutBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		stream := framed(t, frame.Default(), "first", "second")
		go func() {
			_, _ = far.Write(stream[:6])
			<-time.After(9 * time.Second)
			_, _ = far.Write(stream[6:15])
			<-time.After(9 * time.Second)
			_, _ = far.Write(stream[15:])
		}()
		expect(t, frame.NewReader(near, frame.Default(), 100, packetTimeout, 0), "first", "second")
	})
}

// Other reasons for a timeout are not the packet's.
func TestReaderForeignDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		require.NoError(t, near.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := frame.NewReader(near, frame.Default(), 100, packetTimeout, 0).Next()
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.NotErrorIs(t, err, frame.ErrPacketTimeout)
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			defer far.Close()
			for range 5 {
				_, _ = far.Write(make([]byte, 1<<16))
				<-time.After(time.Second)
			}
		}()
		begun := time.Now()
		frame.Drain(near, time.Minute)
		assert.Equal(t, 5*time.Second, time.Since(begun), "until the end")
	})
	synctest.Test(t, func(t *testing.T) {
		near := drip(t, []byte("x"), time.Second)
		begun := time.Now()
		frame.Drain(near, packetTimeout)
		assert.Equal(t, packetTimeout, time.Since(begun), "no longer than that, whatever comes")
		near.Close()
		frame.Drain(near, packetTimeout)
		assert.Equal(t, packetTimeout, time.Since(begun), "a closed connection is at its end")
	})
}
