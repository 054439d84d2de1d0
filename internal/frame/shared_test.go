package frame_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// counting is a framer that counts how often it marks a packet.
type counting struct {
	frame.Framer
	appended *int
}

func (c counting) Append(dst, packet []byte) ([]byte, error) {
	*c.appended++
	return c.Framer.Append(dst, packet)
}

// uncountable can't be a key.
type uncountable struct {
	counting
	_ []int
}

// A payload that many packets share is marked once, with the same bytes as any other.
func TestSharedIsEncodedOnce(t *testing.T) {
	appended := 0
	for _, test := range []struct {
		framer frame.Framer
		want   int
	}{{counting{frame.Default(), &appended}, 1}, {uncountable{counting: counting{frame.Default(), &appended}}, 10}} {
		appended = 0
		shared := frame.NewShared([]byte("payload"))
		var list []*frame.Packet
		for range 10 {
			list = append(list, frame.NewSharedPacket(frame.KindNone, shared))
		}
		sink := &sinkConn{}
		n, err := frame.WriteStream(sink, test.framer, list, 0)
		require.NoError(t, err)
		assert.Equal(t, 10, n)
		assert.Equal(t, test.want, appended)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	shared := frame.NewShared([]byte("payload"))
	go func() {
		_, _ = frame.WriteStream(far, frame.Default(), []*frame.Packet{
			frame.NewSharedPacket(0, shared), frame.NewPacket(0, []byte("own"), nil), frame.NewSharedPacket(0, shared),
		}, 0)
	}()
	expect(t, frame.NewReader(near, frame.Default(), 100, 0, 0), "payload", "own", "payload")
}

func TestSharedFailure(t *testing.T) {
	wrong := errors.New("wrong")
	shared := frame.NewShared(nil)
	for range 2 { // a failure is not kept
		_, err := shared.Encoded(1, func([]byte) (any, error) { return nil, wrong })
		assert.Equal(t, wrong, err)
	}
	v, err := shared.Encoded(1, func([]byte) (any, error) { return 7, nil })
	assert.NoError(t, err)
	assert.Equal(t, 7, v)
}
