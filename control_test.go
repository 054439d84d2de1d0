package gateway

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const sampleKey = 0xCB0071071267 // 203.0.113.7:4711

func sampleHello() helloBody {
	h := helloBody{lowest: 1, highest: 3, name: "front", keys: []keyID{{1, 2, 3, 4, 5, 6, 7, 8}}}
	for i := range h.instance {
		h.instance[i] = byte(i)
	}
	for i := range h.nonce {
		h.nonce[i] = byte(0x40 + i)
	}
	return h
}

func sampleWelcome() welcomeBody {
	h := sampleHello()
	return welcomeBody{version: 1, instance: h.instance, nonce: h.nonce, name: "back", key: h.keys[0], proof: bytes.Repeat([]byte{0xAA}, proofSize)}
}

// controlCase is one control packet: what is written, the bytes that are, and what is read again.
type controlCase struct {
	t     controlType
	body  []byte
	hex   string
	value any
	read  func(body []byte) (any, error)
}

func controlCases() []controlCase {
	instance := "000102030405060708090a0b0c0d0e0f"
	nonce := "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
	key := "cb0071071267"
	hello, welcome := sampleHello(), sampleWelcome()
	open := openBody{
		key: sampleKey, attach: 7, resumed: true, kind: 2, written: 9, received: 8,
		transport: "tcp", address: "1.2.3.4:5", attributes: []byte{0, 0}, state: []byte("hp"),
	}
	attached := attachedBody{key: sampleKey, attach: 7, anew: true, received: 9, written: 8}
	keys := appendKey(nil, sampleKey)
	type pair struct{ a, b any }
	two := func(a, b any, err error) (any, error) { return pair{a, b}, err }
	return []controlCase{
		{ctlHello, appendHello(nil, &hello), "0103" + instance + nonce + "0566726f6e74" + "010102030405060708", hello,
			func(b []byte) (any, error) { return readHello(b) }},
		{ctlWelcome, appendWelcome(nil, &welcome), "01" + instance + nonce + "046261636b" + "010102030405060708" + "20" + strings.Repeat("aa", 32), welcome,
			func(b []byte) (any, error) { return readWelcome(b) }},
		{ctlAuth, appendString(nil, "proof"), "0570726f6f66", []byte("proof"),
			func(b []byte) (any, error) { return readAuth(b) }},
		{ctlReady, []byte{1}, "01", backendDraining,
			func(b []byte) (any, error) { return readState(ctlReady, b) }},
		{ctlOpen, appendOpen(nil, &open), key + "00000007" + "01" + "0000000000000009" + "0000000000000008" + "02" + "03746370" + "09312e322e332e343a35" + "00020000" + "000000026870", open,
			func(b []byte) (any, error) { return readOpen(b) }},
		{ctlAttached, appendAttached(nil, &attached), key + "00000007" + "01" + "0000000000000009" + "0000000000000008", attached,
			func(b []byte) (any, error) { return readAttached(b) }},
		{ctlType, append(appendKey(nil, sampleKey), 1), key + "01", pair{uint64(sampleKey), byte(1)},
			func(b []byte) (any, error) { return two(readType(b)) }},
		{ctlClose, appendClose(nil, sampleKey, 7, causeMoved), key + "00000007" + "02", [3]any{uint64(sampleKey), uint32(7), causeMoved},
			func(b []byte) (any, error) { k, a, c, err := readClose(b); return [3]any{k, a, c}, err }},
		{ctlClosed, appendClosed(nil, sampleKey, 7, []byte("hp")), key + "00000007" + "000000026870", [3]any{uint64(sampleKey), uint32(7), "hp"},
			func(b []byte) (any, error) { k, a, s, err := readClosed(b); return [3]any{k, a, string(s)}, err }},
		{ctlKick, appendKick(nil, sampleKey, 4001, "no"), key + "0fa1" + "026e6f", [3]any{uint64(sampleKey), 4001, "no"},
			func(b []byte) (any, error) { k, c, r, err := readKick(b); return [3]any{k, c, r}, err }},
		{ctlRelease, appendKey(nil, sampleKey), key, uint64(sampleKey),
			func(b []byte) (any, error) { return readRelease(b) }},
		{ctlHandoff, appendHandoff(nil, sampleKey, "match", []byte("hp")), key + "056d61746368" + "000000026870", [3]any{uint64(sampleKey), "match", "hp"},
			func(b []byte) (any, error) { k, n, s, err := readHandoff(b); return [3]any{k, n, string(s)}, err }},
		{ctlJoin, appendGroup(nil, "room", sampleKey), "04726f6f6d" + key, pair{"room", keys},
			func(b []byte) (any, error) { return two(readGroup(ctlJoin, b)) }},
		{ctlLeave, appendGroup(nil, "room", sampleKey, sampleKey), "04726f6f6d" + key + key, pair{"room", append(keys, keys...)},
			func(b []byte) (any, error) { return two(readGroup(ctlLeave, b)) }},
		{ctlCast, appendCast(nil, &castBody{kind: 2, to: castKeys, keys: keys, payload: []byte("hi")}), "0200" + "00000001" + key + "6869",
			castBody{kind: 2, to: castKeys, keys: keys, payload: []byte("hi")},
			func(b []byte) (any, error) { return readCast(b) }},
		{ctlCast, appendCast(nil, &castBody{to: castGroup, group: "room", payload: []byte("hi")}), "0001" + "04726f6f6d" + "6869",
			castBody{to: castGroup, group: "room", payload: []byte("hi")},
			func(b []byte) (any, error) { return readCast(b) }},
		{ctlCast, appendCast(nil, &castBody{kind: 1, to: castAll, payload: []byte("hi")}), "0102" + "6869",
			castBody{kind: 1, to: castAll, payload: []byte("hi")},
			func(b []byte) (any, error) { return readCast(b) }},
		{ctlPing, []byte{0, 0, 0, 0, 0, 0, 0, 9}, "0000000000000009", uint64(9),
			func(b []byte) (any, error) { return readNonce(ctlPing, b) }},
		{ctlFlow, append(appendKey(nil, sampleKey), 1), key + "01", fmt.Sprint(uint64(sampleKey), true),
			func(b []byte) (any, error) {
				said := ""
				err := readFlow(b, func(k uint64, on bool) { said += fmt.Sprint(k, on) })
				return said, err
			}},
		{ctlDrain, []byte{2}, "02", backendLeaving,
			func(b []byte) (any, error) { return readState(ctlDrain, b) }},
		{ctlGoaway, []byte{4}, "04", byte(4),
			func(b []byte) (any, error) { return readGoaway(b) }},
	}
}

func TestControlPackets(t *testing.T) {
	for _, c := range controlCases() {
		t.Run(fmt.Sprint(c.t), func(t *testing.T) {
			assert.Equal(t, c.hex, hex.EncodeToString(c.body))
			got, err := c.read(c.body)
			require.NoError(t, err)
			assert.Equal(t, c.value, got)
			switch c.t {
			case ctlJoin, ctlLeave, ctlCast, ctlFlow: // end in a list, or in the payload
			default:
				got, err = c.read(append(bytes.Clone(c.body), 1, 2, 3))
				require.NoError(t, err, "bodies may grow at the end")
				assert.Equal(t, c.value, got)
			}
			if c.t == ctlCast {
				return // a shorter payload is a payload
			}
			for n := range len(c.body) {
				if c.t == ctlFlow && n == 0 || (c.t == ctlJoin || c.t == ctlLeave) && (len(c.body)-n)%keySize == 0 && n >= 5 {
					continue // shorter lists
				}
				_, err := c.read(c.body[:n])
				assert.ErrorIs(t, err, errMalformed, "cut to %d bytes", n)
			}
		})
	}
}

func TestControlRefuses(t *testing.T) {
	for name, body := range map[string]struct {
		read func([]byte) error
		body []byte
	}{
		"versions the wrong way round": {func(b []byte) error { _, err := readHello(b); return err }, func() []byte { h := sampleHello(); h.lowest = 4; return appendHello(nil, &h) }()},
		"version 0":                    {func(b []byte) error { _, err := readHello(b); return err }, func() []byte { h := sampleHello(); h.lowest = 0; return appendHello(nil, &h) }()},
		"unknown state":                {func(b []byte) error { _, err := readState(ctlDrain, b); return err }, []byte{3}},
		"the control address as a key": {func(b []byte) error { _, err := readRelease(b); return err }, make([]byte, keySize)},
		"state of 4 GiB":               {func(b []byte) error { _, _, _, err := readClosed(b); return err }, append(appendClosed(nil, sampleKey, 1, nil)[:10], 0xFF, 0xFF, 0xFF, 0xFF)},
		"4 billion keys":               {func(b []byte) error { _, err := readCast(b); return err }, []byte{0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3}},
		"unknown target":               {func(b []byte) error { _, err := readCast(b); return err }, []byte{0, 9, 1}},
		"two keys offered":             {func(b []byte) error { _, err := readWelcome(b); return err }, func() []byte { w := sampleWelcome(); b := appendWelcome(nil, &w); b[1+16+32+5] = 2; return b }()},
	} {
		assert.ErrorIs(t, body.read(body.body), errMalformed, name)
	}
}

func TestAttributes(t *testing.T) {
	want := map[string]string{"token": "abc", "": "", "language": strings.Repeat("x", 4000)}
	data, err := appendAttributes(nil, want)
	require.NoError(t, err)
	got := map[string]string{}
	require.NoError(t, readAttributes(data, func(name, value string) { got[name] = value }))
	assert.Equal(t, want, got)
	assert.Error(t, readAttributes(data[:len(data)-1], func(string, string) {}))
	assert.NoError(t, readAttributes(nil, func(string, string) { assert.Fail(t, "there are none") }))
	for _, tooLarge := range []map[string]string{{"a": strings.Repeat("x", 4097)}, {strings.Repeat("n", 256): ""}} {
		data, err := appendAttributes(nil, tooLarge)
		assert.Error(t, err)
		assert.Empty(t, data)
	}
}

// Names and reasons that are too long for their field are cut, never wrapped around.
func TestControlCutsNames(t *testing.T) {
	_, _, reason, err := readKick(appendKick(nil, sampleKey, 4000, strings.Repeat("r", 300)))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("r", maxReasonSize), reason)
	group, _, err := readGroup(ctlJoin, appendGroup(nil, strings.Repeat("g", 300)))
	require.NoError(t, err)
	assert.Len(t, group, 255)
}

func TestBeginControl(t *testing.T) {
	assert.Equal(t, "deadbeef0000000000000b", hex.EncodeToString(beginControl(true, ctlRelease, 10)))
	assert.Equal(t, "000000000000000000000b", hex.EncodeToString(beginControl(false, ctlRelease, 10)))
}

// Reading takes any bytes, and what it takes apart it can put together again.
func FuzzControl(f *testing.F) {
	for _, c := range controlCases() {
		f.Add(byte(c.t), c.body)
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		for _, c := range controlCases() {
			if c.t != controlType(kind) {
				continue
			}
			before := bytes.Clone(body)
			if _, err := c.read(body); err != nil {
				assert.ErrorIs(t, err, errMalformed)
			}
			assert.Equal(t, before, body, "reading changes nothing")
		}
		if h, err := readHello(body); err == nil {
			assert.True(t, bytes.HasPrefix(body, appendHello(nil, &h)))
		}
		if o, err := readOpen(body); err == nil {
			o.resumed = body[10]&flagResumed != 0
			again, err := readOpen(appendOpen(nil, &o))
			assert.NoError(t, err)
			assert.Equal(t, o.key, again.key)
			assert.Equal(t, o.state, again.state)
		}
		if err := readAttributes(body, func(string, string) {}); err != nil {
			assert.ErrorIs(t, err, errMalformed)
		}
	})
}
