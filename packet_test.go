package gateway_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

func TestMarshalGatewayOutPacket(t *testing.T) {
	for _, test := range []struct{ name, addr, packet, want string }{
		{"a player", "192.168.1.2:8080", "hi", "deadbeef" + "c0a80102" + "1f90" + "6869"},
		{"empty payload", "1.2.3.4:5", "", "deadbeef" + "01020304" + "0005"},
		{"control address", "0.0.0.0:0", "c", "deadbeef" + "00000000" + "0000" + "63"},
		{"highest address", "255.255.255.255:65535", "z", "deadbeef" + "ffffffff" + "ffff" + "7a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := gateway.MarshalGatewayOutPacket(test.addr, []byte(test.packet))
			require.NoError(t, err)
			assert.Equal(t, test.want, hex.EncodeToString(data))
			addr, packet, err := gateway.UnmarshalGatewayOutPacket(data)
			require.NoError(t, err)
			assert.Equal(t, test.addr, addr)
			assert.Equal(t, test.packet, string(packet))
		})
	}
}

func TestMarshalGatewayInPacket(t *testing.T) {
	for _, test := range []struct {
		name, addr string
		time       int64
		packet     string
		want       string
		sent       int64
	}{
		{"a player", "192.168.1.2:8080", 1, "hi", "c0a80102" + "1f90" + "00000001" + "6869", 1},
		{"low 32 bits of the time", "1.2.3.4:5", 0x1_2345_6789, "", "01020304" + "0005" + "23456789", 0x23456789},
		{"highest time", "1.2.3.4:5", math.MaxUint32, "x", "01020304" + "0005" + "ffffffff" + "78", math.MaxUint32},
		{"negative time", "1.2.3.4:5", -1, "x", "01020304" + "0005" + "ffffffff" + "78", math.MaxUint32},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := gateway.MarshalGatewayInPacket(test.addr, test.time, []byte(test.packet))
			require.NoError(t, err)
			assert.Equal(t, test.want, hex.EncodeToString(data))
			addr, sent, packet, err := gateway.UnmarshalGatewayInPacket(data)
			require.NoError(t, err)
			assert.Equal(t, test.addr, addr)
			assert.Equal(t, test.sent, sent)
			assert.Equal(t, test.packet, string(packet))
		})
	}
}

func TestMarshalRefusesAddresses(t *testing.T) {
	for _, addr := range []string{
		"", "1.2.3.4", "1.2.3.4:", ":80", "1.2.3:80", "1.2.3.4.5:80", "256.1.1.1:80", "1.2.3.4:65536", "1.2.3.4:-1",
		"1.2.3.4:x", "[::1]:80", "[::ffff:1.2.3.4]:80", "::1", "localhost:80", "1.2.3.4:80 ", "unix:7",
	} {
		t.Run(addr, func(t *testing.T) {
			_, err := gateway.MarshalGatewayOutPacket(addr, []byte("x"))
			assert.ErrorContains(t, err, `"`+addr+`"`)
			_, err = gateway.MarshalGatewayInPacket(addr, 0, []byte("x"))
			assert.ErrorContains(t, err, `"`+addr+`"`)
		})
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for n := range 10 {
		_, _, err := gateway.UnmarshalGatewayOutPacket(make([]byte, n))
		assert.Error(t, err, "%d bytes", n)
		_, _, _, err = gateway.UnmarshalGatewayInPacket(make([]byte, n))
		assert.Error(t, err, "%d bytes", n)
	}
	_, _, err := gateway.UnmarshalGatewayOutPacket([]byte("\xde\xad\xbe\xee123456"))
	assert.ErrorContains(t, err, "DEADBEEE")
}

// TestCodecsShareNothing: what one call returned is not written to by another, and Unmarshal does not copy.
func TestCodecsShareNothing(t *testing.T) {
	payload := []byte("payload")
	first, err := gateway.MarshalGatewayOutPacket("1.2.3.4:5", payload)
	require.NoError(t, err)
	kept := bytes.Clone(first)
	copy(payload, "XXXXXXX")
	_, err = gateway.MarshalGatewayOutPacket("9.9.9.9:9", payload)
	require.NoError(t, err)
	assert.Equal(t, kept, first)

	_, packet, err := gateway.UnmarshalGatewayOutPacket(first)
	require.NoError(t, err)
	assert.Same(t, &first[10], &packet[0])
	in, err := gateway.MarshalGatewayInPacket("1.2.3.4:5", 0, []byte("x"))
	require.NoError(t, err)
	_, _, packet, err = gateway.UnmarshalGatewayInPacket(in)
	require.NoError(t, err)
	assert.Same(t, &in[10], &packet[0])
}

func FuzzGatewayOutPacket(f *testing.F) {
	f.Add([]byte("\xde\xad\xbe\xef\x01\x02\x03\x04\x00\x05payload"))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		addr, packet, err := gateway.UnmarshalGatewayOutPacket(data)
		if err != nil {
			return
		}
		again, err := gateway.MarshalGatewayOutPacket(addr, packet)
		require.NoError(t, err)
		assert.Equal(t, data, again)
	})
}

func FuzzGatewayInPacket(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x00\x05\x00\x00\x00\x07payload"))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		addr, sent, packet, err := gateway.UnmarshalGatewayInPacket(data)
		if err != nil {
			return
		}
		again, err := gateway.MarshalGatewayInPacket(addr, sent, packet)
		require.NoError(t, err)
		assert.Equal(t, data, again)
	})
}

func FuzzMarshalAddress(f *testing.F) {
	f.Add("1.2.3.4:5")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, addr string) {
		data, err := gateway.MarshalGatewayOutPacket(addr, nil)
		if err != nil {
			return
		}
		back, _, err := gateway.UnmarshalGatewayOutPacket(data)
		require.NoError(t, err)
		again, err := gateway.MarshalGatewayOutPacket(back, nil)
		require.NoError(t, err)
		assert.Equal(t, data, again)
	})
}
