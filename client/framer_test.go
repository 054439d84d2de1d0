package client_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

func TestFramers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		client client.Framer
		server server.Framer
		wire   string // of "abc"
	}{
		{"default", nil, server.LengthFramer(4, nil), "\x00\x00\x00\x03abc"},
		{"length 1", client.LengthFramer(1, nil), server.LengthFramer(1, nil), "\x03abc"},
		{"length 2", client.LengthFramer(2, nil), server.LengthFramer(2, nil), "\x00\x03abc"},
		{"length 2, little-endian", client.LengthFramer(2, binary.LittleEndian), server.LengthFramer(2, binary.LittleEndian), "\x03\x00abc"},
		{"length 4, little-endian", client.LengthFramer(4, binary.LittleEndian), server.LengthFramer(4, binary.LittleEndian), "\x03\x00\x00\x00abc"},
		{"uvarint", client.UvarintFramer(), server.UvarintFramer(), "\x03abc"},
		{"line", client.LineFramer(), server.LineFramer(), "abc\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := serve(t, server.NetworkTcp, server.WithFramer(tt.server)).echo()
			c := client.NewTCP(b.addr, client.WithFramer(tt.client))
			l := observe(c)
			require.NoError(t, c.Run())
			defer c.Close()
			const n = 200
			for i := range n {
				c.Write(numbered(i))
			}
			for i := range n {
				require.Equal(t, string(numbered(i)), await(t, b.packets, "packet").data)
				require.Equal(t, string(numbered(i)), await(t, l.packets, "echo").data)
			}
			assert.Equal(t, tt.wire, onTheWire(t, client.WithFramer(tt.client)))
		})
	}
	assert.Nil(t, client.LengthFramer(3, nil))
}

// onTheWire returns the bytes of the packet "abc".
func onTheWire(t *testing.T, opts ...client.Option) string {
	bytes := make(chan string, 1)
	addr := listen(t, func(conn *net.TCPConn) {
		all, _ := io.ReadAll(conn)
		bytes <- string(all)
	})
	c := client.NewTCP(addr, opts...)
	require.NoError(t, c.Run())
	c.Write([]byte("abc"))
	c.Close()
	return await(t, bytes, "bytes")
}

// Raw keeps the bytes, and no boundaries.
func TestRawFramer(t *testing.T) {
	b := serve(t, server.NetworkTcp, server.WithFramer(server.RawFramer())).echo()
	c := client.NewTCP(b.addr, client.WithFramer(client.RawFramer()))
	l := observe(c)
	require.NoError(t, c.Run())
	defer c.Close()
	var want, got string
	for i := range 100 {
		c.Write(numbered(i))
		want += string(numbered(i))
	}
	for len(got) < len(want) {
		got += await(t, l.packets, "bytes").data
	}
	assert.Equal(t, want, got)
	assert.Equal(t, "abc", onTheWire(t, client.WithFramer(client.RawFramer())))
}

// Packets arrive whole, however the bytes of them do.
func TestPacketsInPieces(t *testing.T) {
	var stream []byte
	for _, packet := range []string{"one", "", "three"} {
		stream = append(stream, framed(packet)...)
	}
	inMemory, peers := pipes()
	c := client.NewTCP("peer:1", inMemory)
	l := observe(c)
	require.NoError(t, c.Run())
	peer := await(t, peers, "connection")
	for i := range stream {
		_, err := peer.Write(stream[i : i+1])
		require.NoError(t, err)
	}
	for _, want := range []string{"one", "", "three"} {
		assert.Equal(t, want, await(t, l.packets, "packet").data)
	}
	peer.Close()
	assert.Nil(t, await(t, l.closed, "closed event"))
}
