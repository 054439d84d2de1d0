package client

import (
	"time"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// Packet is one message on its way out: Type is its WebSocket type (0: none), Bytes its payload, which must not be changed.
type Packet = frame.Packet

// NewPacket returns a packet for Enqueue. The packet owns data; done, which may be nil, is called exactly once if the
// packet was accepted: with nil when the bytes were handed to the kernel, and else with the reason.
func NewPacket(wst int, data []byte, done func(err error)) *Packet {
	return frame.NewPacket(wst, data, done)
}

// Core is a client's transport. Give one of your own to NewClient. A Core is run once: each further Run of its client
// uses a Clone.
type Core interface {
	// Run connects, sends the outcome to runState, and then hands what it reads to receive until the connection ends.
	// A packet handed over belongs to the receiver. It may panic with the reason for the end.
	Run(runState chan<- error, receive func(wst int, packet []byte))
	// Write hands packet to the kernel. One goroutine at a time calls it.
	Write(packet *Packet) error
	// Close ends the connection, or connecting, and makes Run and Write return. It may be called at any time, and twice.
	Close()
	// GetServerAddr returns the address to connect to.
	GetServerAddr() string
	// Clone returns a Core for the same address that shares nothing with this one.
	Clone() Core
}

// PacketsWriter is a Core that writes many packets at once.
type PacketsWriter interface {
	// WritePackets hands packets to the kernel, in order, and returns how many of them, from the first on, it took in full. It
	// keeps nothing of them. One goroutine at a time calls it, in place of Write.
	WritePackets(packets []*Packet) (written int, err error)
}

// PacketRaiser is a Core that can take larger packets than it was made for: a gateway's endpoint may ask for that.
type PacketRaiser interface {
	// RaisePacketLimit makes packets of n bytes pass, and a gateway's header of 64 bytes with them. It is called before Run.
	RaisePacketLimit(n int)
}

// The following are what the Cores of this package can do beyond that.
type (
	// reasoner tells why Run has returned, nil after an orderly end.
	reasoner interface{ err() error }
	// ender says good-bye to the server before Close.
	ender interface{ shutdown() }
	// ponger reports the delay of answered pings.
	ponger interface {
		onPong(report func(time.Duration))
	}
	// quieter tells when it has handed over all that was read, before it waits for more.
	quieter interface{ onQuiet(quiet func()) }
	// boundless tells whether packet boundaries are lost.
	boundless interface{ raw() bool }
	// lossy tells whether packets may get lost, or out of order.
	lossy interface{ unreliable() bool }
	// configured tells the options that the client itself heeds.
	configured interface{ options() options }
	// looping may be read and written by an event loop.
	looping interface {
		base() *socket
		mayLoop() bool
	}
)
