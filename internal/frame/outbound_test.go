package frame_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// kernel is a NowWriter that takes so many bytes, one allowance for each call, and everything when there are no more.
type kernel struct {
	allowances []int
	taken      []byte
	calls      []int // bytes it was given
	err        error // of a call whose allowance didn't do
}

func (k *kernel) WriteNow(p []byte) (int, error) {
	k.calls = append(k.calls, len(p))
	n := len(p)
	if len(k.allowances) > 0 {
		n = min(n, k.allowances[0])
		k.allowances = k.allowances[1:]
	}
	k.taken = append(k.taken, p[:n]...)
	if n < len(p) {
		return n, k.err
	}
	return n, nil
}

// wholeOf returns how many packets, marked by f, n bytes hold whole, and whether the next one was begun.
func wholeOf(t testing.TB, f frame.Framer, payloads []string, n int) (whole int, cut bool) {
	end := 0
	for _, p := range payloads {
		size := len(framed(t, f, p))
		if end+size > n {
			return whole, n > end
		}
		end += size
		whole++
	}
	return whole, false
}

// shareds makes packets of one payload each, which they could share with others.
func shareds(payloads ...string) (list []*frame.Packet) {
	for _, p := range payloads {
		list = append(list, frame.NewSharedPacket(0, frame.NewShared([]byte(p))))
	}
	return list
}

var packetMakers = map[string]func(payloads ...string) []*frame.Packet{"own": packets, "shared": shareds}

// eager writes to one NowWriter, in one style.
type eager struct {
	frame.Cut
	to    frame.NowWriter
	style frame.Style
}

func newEager(to frame.NowWriter, framer frame.Framer, encode frame.Encoder) *eager {
	return &eager{to: to, style: frame.Style{Framer: framer, Encode: encode}}
}

func (e *eager) WriteNow(packets []*frame.Packet) (int, error) {
	return e.Cut.WriteNow(e.to, &e.style, packets)
}

// Wherever the kernel stops, those packets count that it has whole, and the next call goes on with the very next byte.
func TestOutboundStopsAtEveryByte(t *testing.T) {
	payloads := []string{"a", "", "some more", "x", "the last of them"}
	for _, f := range framers {
		for name, make := range packetMakers {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				stream := framed(t, f, payloads...)
				for at := range len(stream) + 1 {
					k := &kernel{allowances: []int{at}}
					o := newEager(k, f, nil)
					list := make(payloads...)
					n, err := o.WriteNow(list)
					require.NoError(t, err)
					whole, cut := wholeOf(t, f, payloads, at)
					require.Equal(t, whole, n, "%d bytes taken", at)
					require.Equal(t, cut, o.Pending(), "%d bytes taken", at)
					m, err := o.WriteNow(list[n:])
					require.NoError(t, err)
					require.Equal(t, len(list), n+m)
					require.False(t, o.Pending())
					require.Equal(t, string(stream), string(k.taken), "stopped at %d", at)
				}
			})
		}
	}
}

// The same with two stops, the second one in what the first one has left or behind it, and packets that come in between.
func TestOutboundStopsTwice(t *testing.T) {
	payloads := []string{"first", "", "third"}
	later := "later"
	f := frame.Default()
	all := append(append([]string{}, payloads...), later)
	stream := framed(t, f, all...)
	for first := range len(framed(t, f, payloads...)) {
		for second := range len(stream) - first + 1 {
			k := &kernel{allowances: []int{first, second}}
			o := newEager(k, f, nil)
			list := packets(payloads...)
			n, err := o.WriteNow(list)
			require.NoError(t, err)
			list = append(list[n:], packets(later)...)
			m, err := o.WriteNow(list)
			require.NoError(t, err)
			whole, cut := wholeOf(t, f, all, first+second)
			require.Equal(t, whole, n+m, "%d and %d bytes taken", first, second)
			require.Equal(t, cut, o.Pending(), "%d and %d bytes taken", first, second)
			last, err := o.WriteNow(list[m:])
			require.NoError(t, err)
			require.Equal(t, len(all), n+m+last)
			require.Equal(t, string(stream), string(k.taken), "%d and %d bytes taken", first, second)
		}
	}
}

func TestOutboundByteByByte(t *testing.T) {
	payloads := []string{"first", "", strings.Repeat("x", 300)}
	k := &kernel{}
	o := newEager(k, frame.Default(), nil)
	list := packets(payloads...)
	for len(list) > 0 {
		k.allowances = []int{1}
		n, err := o.WriteNow(list)
		require.NoError(t, err)
		list = list[n:]
	}
	assert.Equal(t, string(framed(t, frame.Default(), payloads...)), string(k.taken))
	assert.Len(t, k.calls, len(k.taken), "none was for nothing")
}

// What an error leaves counts as what a stop leaves.
func TestOutboundErrors(t *testing.T) {
	payloads := []string{"a", "bb", "ccc"}
	stream := framed(t, frame.Default(), payloads...)
	for at := range stream {
		o := newEager(&kernel{allowances: []int{at}, err: errBroken}, frame.Default(), nil)
		n, err := o.WriteNow(packets(payloads...))
		require.ErrorIs(t, err, errBroken)
		whole, cut := wholeOf(t, frame.Default(), payloads, at)
		require.Equal(t, whole, n)
		require.Equal(t, cut, o.Pending())
	}
}

// A packet that can't be expressed is none of the stream, wherever the kernel stops, and is dealt with once those before it are.
func TestOutboundRefusesAtEveryByte(t *testing.T) {
	const bad = "line\nfeed"
	for _, payloads := range [][]string{
		{bad, "a", "bb"}, {"a", bad, bad, "bb"}, {"a", "bb", bad}, {bad}, {bad, bad}, {"a", bad, "", bad},
	} {
		var good []string
		for _, p := range payloads {
			if p != bad {
				good = append(good, p)
			}
		}
		stream := framed(t, frame.Line(), good...)
		for at := range len(stream) + 1 {
			for name, make := range packetMakers {
				what := fmt.Sprintf("%q, %s, %d bytes taken", payloads, name, at)
				k := &kernel{allowances: []int{at}}
				o := newEager(k, frame.Line(), nil)
				list := make(payloads...)
				for done, calls := 0, 0; done < len(list); calls++ {
					require.Less(t, calls, 2, what)
					n, err := o.WriteNow(list[done:])
					require.NoError(t, err, what)
					for i, p := range list[done : done+n] {
						require.Equal(t, payloads[done+i] == bad, p.Refused(), what)
					}
					done += n
				}
				require.Equal(t, string(stream), string(k.taken), what)
			}
		}
	}
}

// An encoder takes the framer's place.
func TestOutboundEncoder(t *testing.T) {
	wrong := errors.New("wrong")
	encode := func(dst []byte, p *frame.Packet) ([]byte, error) {
		if len(p.Bytes()) == 0 {
			return dst, wrong
		}
		return append(append(dst, byte('0'+p.Type())), p.Bytes()...), nil
	}
	for at := range 8 {
		k := &kernel{allowances: []int{at}}
		o := newEager(k, nil, encode)
		list := []*frame.Packet{
			frame.NewPacket(1, []byte("one"), nil), frame.NewPacket(2, nil, nil), frame.NewPacket(2, []byte("two"), nil),
		}
		n, err := o.WriteNow(list)
		require.NoError(t, err)
		_, err = o.WriteNow(list[n:])
		require.NoError(t, err)
		require.Equal(t, "1one2two", string(k.taken))
		require.True(t, list[1].Refused())
	}
}

// Many small packets are one write up to the bound, what is left of one among them.
func TestOutboundGathers(t *testing.T) {
	const size = 1000
	payload := strings.Repeat("x", size)
	var payloads []string
	for range 300 {
		payloads = append(payloads, payload)
	}
	k := &kernel{allowances: []int{size / 2}}
	o := newEager(k, frame.Default(), nil)
	list := packets(payloads...)
	n, err := o.WriteNow(list)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = o.WriteNow(list)
	require.NoError(t, err)
	assert.Equal(t, len(list), n)
	for _, given := range k.calls {
		assert.LessOrEqual(t, given, frame.GatherLimit+size)
	}
	assert.Len(t, k.calls, 1+(300*(size+4)+frame.GatherLimit-1)/frame.GatherLimit)
	assert.True(t, bytes.Equal(framed(t, frame.Default(), payloads...), k.taken))

	k.calls = nil
	n, err = o.WriteNow(packets("a", strings.Repeat("y", 3*frame.GatherLimit), "b", "c"))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	assert.Equal(t, []int{5, 3*frame.GatherLimit + 4, 10}, k.calls)
}

// Connections that get the same payload stop at different bytes of it.
func TestOutboundSharedPayloadManyConnections(t *testing.T) {
	shared := frame.NewShared([]byte("for everybody"))
	stream := string(framed(t, frame.Default(), "for everybody", "own"))
	for at := range len(stream) {
		k := &kernel{allowances: []int{at}}
		o := newEager(k, frame.Default(), nil)
		list := append([]*frame.Packet{frame.NewSharedPacket(0, shared)}, packets("own")...)
		n, err := o.WriteNow(list)
		require.NoError(t, err)
		_, err = o.WriteNow(list[n:])
		require.NoError(t, err)
		require.Equal(t, stream, string(k.taken))
	}
	assert.Equal(t, "for everybody", string(shared.Bytes()))
}

func TestOutboundWritesNothing(t *testing.T) {
	k := &kernel{}
	o := newEager(k, frame.Default(), nil)
	n, err := o.WriteNow(nil)
	assert.NoError(t, err)
	assert.Zero(t, n)
	assert.Empty(t, k.calls)
	assert.False(t, o.Pending())
	blind := frame.NewOutbound(&takeConn{}, &frame.Style{Framer: frame.Default()}, 0)
	assert.False(t, blind.Eager(), "what is no socket can only wait")
}
