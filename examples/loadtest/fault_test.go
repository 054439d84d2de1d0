package main

import (
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
	"github.com/minotaur-gateway/gateway/server"
)

// faults are what servers may do wrong with a packet, and where that is counted.
var faults = []struct {
	name   string
	faulty func(srv *server.Server, player *server.Conn, packet []byte)
	closed func(c counts) int64 // where the fault has to be found with a closed loop
	rate   func(c counts) int64 // and with a rate; nil: at the same place
}{
	{
		"changes a bit of the filler",
		func(_ *server.Server, player *server.Conn, packet []byte) {
			player.Write(flipped(packet, len(packet)-1))
		},
		func(c counts) int64 { return c.Corrupted }, nil,
	},
	{
		"changes a bit of the client's number",
		func(_ *server.Server, player *server.Conn, packet []byte) { player.Write(flipped(packet, 7)) },
		func(c counts) int64 { return c.Corrupted }, nil,
	},
	{
		"puts something before the packet",
		func(_ *server.Server, player *server.Conn, packet []byte) {
			player.Write(append([]byte("A: "), packet...))
		},
		func(c counts) int64 { return c.Corrupted }, nil,
	},
	{
		"cuts the packet short",
		func(_ *server.Server, player *server.Conn, packet []byte) { player.Write(packet[:3]) },
		func(c counts) int64 { return c.Corrupted }, nil,
	},
	{
		"says nothing",
		func(*server.Server, *server.Conn, []byte) {},
		func(c counts) int64 { return c.Lost }, nil,
	},
	{
		"answers somebody else",
		func(srv *server.Server, player *server.Conn, packet []byte) {
			for id, other := range srv.GetOnlineAll() {
				if id != player.GetID() {
					other.Write(packet)
					return
				}
			}
		},
		func(c counts) int64 { return c.Misrouted }, nil,
	},
	{
		"answers everybody",
		func(srv *server.Server, _ *server.Conn, packet []byte) { srv.Broadcast(packet) },
		func(c counts) int64 { return c.Misrouted }, nil,
	},
	{
		"answers twice",
		func(_ *server.Server, player *server.Conn, packet []byte) {
			player.Write(packet)
			player.Write(packet)
		},
		func(c counts) int64 { return c.Doubled }, nil,
	},
	{
		"holds the reply back until the next packet",
		func(_ *server.Server, player *server.Conn, packet []byte) {
			player.SetData("held", slices.Clone(packet))
		},
		func(c counts) int64 { return c.Late }, // the next packet is sent when this one was given up
		func(c counts) int64 { return c.OutOfOrder },
	},
	{
		"closes the connection",
		func(_ *server.Server, player *server.Conn, _ []byte) { player.Close() },
		func(c counts) int64 { return c.Errors },
		func(c counts) int64 { return min(c.Errors, c.Unsent) },
	},
	{
		"sends more than it was sent",
		func(_ *server.Server, player *server.Conn, packet []byte) {
			player.Write(make([]byte, len(packet)+slack+1))
		},
		func(c counts) int64 { return c.Errors + c.Corrupted }, nil, // on a stream that is its end
	},
}

func flipped(packet []byte, at int) []byte {
	packet = slices.Clone(packet)
	packet[at] ^= 1
	return packet
}

// A server does one thing wrong, with one packet in seven, and has to be found out.
func TestFaultsAreFound(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			for _, network := range []server.Network{server.NetworkWebsocket, server.NetworkTcp} {
				for _, rate := range []string{"closed", "400"} {
					t.Run(string(network)+"/"+rate, func(t *testing.T) {
						address := serveFaulty(t, network, fault.faulty)
						code, r := loadtest(t, t.Context(), flags("-addr", scheme(network)+"://"+address, "-rate", rate,
							"-timeout", "100ms", "-clients", "5", "-warmup", "0s", "-duration", "400ms")...)
						assert.Equal(t, exitWrong, code)
						assert.Equal(t, r.Sent, r.Answered+r.Lost)
						find := fault.closed
						if rate != "closed" && fault.rate != nil {
							find = fault.rate
						}
						assert.Positive(t, find(r.counts))
					})
				}
			}
		})
	}
}

func scheme(network server.Network) string {
	if network == server.NetworkWebsocket {
		return "ws"
	}
	return string(network)
}

// serveFaulty serves an echo that does something else with each seventh packet.
func serveFaulty(t *testing.T, network server.Network, faulty func(srv *server.Server, player *server.Conn, packet []byte)) (address string) {
	srv := server.New(network)
	var count atomic.Int64
	srv.RegConnectionReceivePacketEvent(func(srv *server.Server, player *server.Conn, packet []byte) {
		if count.Add(1)%7 == 0 {
			faulty(srv, player, packet)
			return
		}
		player.Write(packet)
		if held, ok := player.GetData("held").([]byte); ok {
			player.SetData("held", nil)
			player.Write(held)
		}
	})
	return gwtest.Serve(t, srv, "127.0.0.1:0")
}
