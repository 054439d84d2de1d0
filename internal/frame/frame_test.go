package frame_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

func TestPacketFinish(t *testing.T) {
	lost, inexpressible := errors.New("lost"), errors.New("inexpressible")
	cases := []struct {
		name   string
		refuse error
		finish error
		want   error
	}{
		{"written", nil, nil, nil},
		{"lost", nil, lost, lost},
		{"refused", inexpressible, nil, inexpressible},
		{"refused among lost ones", inexpressible, lost, inexpressible},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			var got []error
			p := frame.NewPacket(frame.KindText, []byte("x"), func(err error) { got = append(got, err) })
			assert.Equal(t, 1, p.Type())
			assert.Equal(t, "x", string(p.Bytes()))
			if tt.refuse != nil {
				p.Refuse(tt.refuse)
			}
			assert.Equal(t, tt.refuse != nil, p.Refused())
			p.Finish(tt.finish)
			p.Finish(errors.New("again"))
			assert.Equal(t, []error{tt.want}, got)
		})
	}
	assert.NotPanics(t, func() { frame.NewPacket(0, nil, nil).Finish(nil) })
}

// A callback that finishes its packet again is not called again.
func TestPacketFinishFromCallback(t *testing.T) {
	calls := 0
	var p *frame.Packet
	p = frame.NewPacket(0, nil, func(error) { calls++; p.Finish(nil) })
	p.Finish(nil)
	assert.Equal(t, 1, calls)
}

func TestJoinCallbacks(t *testing.T) {
	lost := errors.New("lost")
	var got []string
	call := func(name string) func(error) {
		return func(err error) { got = append(got, name+": "+err.Error()) }
	}
	cases := []struct {
		name      string
		callbacks []func(error)
		want      []string
	}{
		{"one", []func(error){call("a")}, []string{"a: lost"}},
		{"many, in order", []func(error){call("a"), call("b"), call("c")}, []string{"a: lost", "b: lost", "c: lost"}},
		{"nil among them", []func(error){nil, call("b"), nil}, []string{"b: lost"}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			got = nil
			frame.JoinCallbacks(tt.callbacks)(lost)
			assert.Equal(t, tt.want, got)
		})
	}
	assert.Nil(t, frame.JoinCallbacks(nil))
	assert.Nil(t, frame.JoinCallbacks([]func(error){nil}))
}

func TestTooLarge(t *testing.T) {
	assert.NoError(t, frame.CheckSize(7, 7))
	err := frame.CheckSize(8, 7)
	assert.ErrorIs(t, err, frame.ErrPacketTooLarge)
	assert.EqualError(t, err, "packet too large: 8 bytes, 7 allowed")
	assert.EqualError(t, &frame.TooLargeError{Limit: 7}, "packet too large: more than the 7 bytes allowed")
	var tooLarge *frame.TooLargeError
	if assert.ErrorAs(t, err, &tooLarge) {
		assert.Equal(t, frame.TooLargeError{Size: 8, Limit: 7}, *tooLarge)
	}
}
