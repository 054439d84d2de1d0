package gateway_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
)

// keeper is a transport of somebody's own that keeps the packets it is given.
type keeper struct {
	kept   chan *client.Packet // of all clones
	closed chan struct{}
	close  func()
}

func newKeeper(kept chan *client.Packet) *keeper {
	closed := make(chan struct{})
	return &keeper{kept: kept, closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

func (k *keeper) Run(state chan<- error, _ func(int, []byte)) { state <- nil; <-k.closed }
func (k *keeper) Write(packet *client.Packet) error           { k.kept <- packet; return nil }
func (k *keeper) Close()                                      { k.close() }
func (k *keeper) GetServerAddr() string                       { return "keeper" }
func (k *keeper) Clone() client.Core                          { return newKeeper(k.kept) }

// A packet that a transport of somebody's own was given stays as it is.
func TestOwnTransportKeepsPackets(t *testing.T) {
	const packets = 100
	kept := make(chan *client.Packet, packets)
	e := gateway.NewEndpoint("game", client.NewClient(newKeeper(kept)), gateway.WithEndpointConnectionPoolSize(1), gateway.WithPlainLinks())
	f := newGateway(t, "tcp", "game", gateway.NewStaticScanner(e))
	ready(t, 1, e)
	player := newBot(t, "tcp", f.address)
	var all []*client.Packet
	for n := range packets { // one after the other: each could have the memory of the last
		player.Write(numbered(0, n))
		all = append(all, <-kept)
	}
	for n, packet := range all {
		_, payload, err := gateway.UnmarshalGatewayOutPacket(packet.Bytes())
		assert.NoError(t, err)
		assert.Equal(t, numbered(0, n), payload)
	}
}
