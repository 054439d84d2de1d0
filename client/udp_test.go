package client_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestUDP(t *testing.T) {
	b := serve(t, server.NetworkUdp).echo()
	c := client.NewUDP(b.addr)
	l := observe(c)
	require.NoError(t, c.Run())
	for _, data := range []string{"one", "", strings.Repeat("x", 60_000)} {
		c.Write([]byte(data))
		assert.Equal(t, data, await(t, l.packets, "answer").data)
	}
	c.Close()
	assert.Nil(t, await(t, l.closed, "closed event"))
	require.NoError(t, c.Run(), "and again")
	c.Write([]byte("hello"))
	assert.Equal(t, "hello", await(t, l.packets, "answer").data)
	c.Close()
}

func TestUDPNobodyThere(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc.Close()
	c := client.NewUDP(pc.LocalAddr().String())
	l := observe(c)
	require.NoError(t, c.Run())
	c.Write([]byte("hello"))
	err, ok := await(t, l.closed, "closed event").(error)
	require.True(t, ok)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestUDPRefuses(t *testing.T) {
	assert.ErrorIs(t, client.NewUDP("nowhere").Run(), client.ErrBadAddress)
	assert.ErrorContains(t, client.NewUDP("127.0.0.1:1", client.WithTLS(nil)).Run(), "TLS over UDP")
	c := client.NewUDP("127.0.0.1:9")
	assert.Equal(t, 65507-64, c.MaxPacketSize())
	require.NoError(t, c.Run())
	defer c.Close()
	result := make(chan error, 1)
	c.Write(make([]byte, 65508), func(err error) { result <- err })
	err := await(t, result, "callback")
	assert.ErrorIs(t, err, client.ErrPacketTooLarge)
	assert.ErrorContains(t, err, "65507")
}

func TestReliable(t *testing.T) {
	assert.True(t, client.NewTCP("a:1").Reliable())
	udp := client.NewUDP("a:1")
	assert.False(t, udp.Reliable())
	assert.False(t, client.CloneClient(udp).Reliable())
	assert.True(t, udp.KeepsBoundaries())
}
