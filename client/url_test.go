package client_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestForURL(t *testing.T) {
	for address, want := range map[string]string{
		"ws://host:1/path?q=1": "ws://host:1/path?q=1",
		"ws://host":            "ws://host",
		"wss://host:1/path":    "wss://host:1/path",
		"tcp://host:1":         "host:1",
		"tcp://[::1]:1":        "[::1]:1",
		"tcp://:1":             ":1",
		"tls://host:1":         "host:1",
		"unix:///run/game":     "/run/game",
		"unix:///a%20b":        "/a b",
	} {
		c, err := client.ForURL(address, client.WithMaxPacketSize(77))
		require.NoError(t, err, address)
		assert.Equal(t, want, c.GetServerAddr(), address)
		assert.Equal(t, 77, c.MaxPacketSize(), address)
		assert.False(t, c.IsConnected())
	}
	for _, address := range []string{
		"", "host:1", "host", "/run/game", "http://host", "kcp://host:1", "ws://", "ws:///path", "ws://me@host/", "wss://me:pw@host/",
		"tcp://host", "tcp://host:", "tcp://", "tcp://host:1/path", "tcp://host:1?q=1", "tcp://me@host:1", "tcp://host:1#f",
		"tls://host", "tls://host:1/path", "unix://run/game", "unix:///", "unix:run", "unix:///run/game?q=1", "unix:///run/game#f", "://", "tcp://%zz",
	} {
		if address == "unix:///" {
			continue // the root directory is a path: connecting to it fails
		}
		c, err := client.ForURL(address)
		require.ErrorIs(t, err, client.ErrBadAddress, address)
		assert.ErrorContains(t, err, `"`+address+`"`)
		assert.Nil(t, c)
	}
}

func TestForURLConnects(t *testing.T) {
	for _, tt := range []struct {
		scheme  string
		network server.Network
		path    string
	}{{"ws", server.NetworkWebsocket, "/ws"}, {"tcp", server.NetworkTcp, ""}, {"unix", server.NetworkUnix, ""}} {
		b := serve(t, tt.network)
		c, err := client.ForURL(tt.scheme + "://" + b.addr + tt.path)
		require.NoError(t, err)
		require.NoError(t, c.Run())
		c.Write([]byte("hello"))
		assert.Equal(t, "hello", await(t, b.packets, "packet").data)
		c.Close()
	}
}

func TestOptionDefaults(t *testing.T) {
	for _, n := range []int{0, -1} {
		assert.Equal(t, client.DefaultMaxPacketSize, client.NewTCP("a:1", client.WithMaxPacketSize(n)).MaxPacketSize())
	}
	b := serve(t, server.NetworkTcp).echo()
	c := client.NewTCP(b.addr, nil, client.WithWriteBytes(0), client.WithDialTimeout(0), client.WithWriteTimeout(-1),
		client.WithLogger(nil), client.WithFramer(nil))
	l := observe(c)
	require.NoError(t, c.Run())
	defer c.Close()
	c.Write([]byte("x"))
	c.Write([]byte("y"))
	assert.Equal(t, "x", await(t, l.packets, "echo").data)
	assert.Equal(t, "y", await(t, l.packets, "echo").data)
}
