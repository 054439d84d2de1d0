package conformance

import (
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// Network is a network that the suite runs over: how subjects are made for it, and how peers speak on it, by hand.
type Network struct {
	Name string
	// Server and Client make subjects.
	Server func(opts ...server.Option) *server.Server
	Client func(addr string, opts ...client.Option) *client.Client
	// Address is what to listen on; dir is a folder with a short name, for one listener of one test.
	Address func(dir string) string
	// Dial and Listen make the connections of peers. Listen may be nil where there is no Client.
	Dial   func(addr string) (net.Conn, error)
	Listen func(addr string) (net.Listener, error)
	// Wire is how a peer marks packets, as the side that has dialed or as the other one.
	Wire func(dials bool) Wire
	// Greet is what a peer does when it has dialed, Answer when it was dialed; nil: nothing.
	Greet, Answer func(p *Peer)
	// Lacks says what the network can't do. Cases that need it are left out, or end in another way.
	Lacks Ability
	// Largest is the largest packet that subjects accept, Written the largest that servers put out. 0: 70,000 bytes, and 6 MiB.
	Largest, Written int
}

// Ability is what a network may lack.
type Ability int

const (
	// Pieces: a packet may come in several reads, or several in one, and as many as may be on their way wait for who is to read.
	Pieces Ability = 1 << iota
	// Ends: an end tells the readers of subject, that the peer's socket is gone, soon.
	Ends
	// Farewells: an orderly end tells the other side so.
	Farewells
	// Openings: a connection is there before its first packet.
	Openings
)

func (n *Network) has(a Ability) bool { return n.Lacks&a == 0 }

// burst is how many packets a case may have on their way: many, where none is lost for that.
func (n *Network) burst(many int) int {
	if n.has(Pieces) {
		return many
	}
	return min(many, 100)
}

// largest returns what subjects accept, and what servers put out.
func (n *Network) largest() (accepts, sends int) {
	accepts, sends = n.Largest, n.Written
	if accepts == 0 {
		accepts = limit
	}
	if sends == 0 {
		sends = queueBytes
	}
	return accepts, sends
}

// networks are those that package server and package client have.
func networks() []Network {
	all := []Network{webSocketNetwork(), streamNetwork(TCP, client.NewTCP), streamNetwork(Unix, client.NewUnixDomainSocket), udpNetwork()}
	identity := newIdentity()
	for _, n := range all[:2] {
		all = append(all, n.over(identity))
	}
	return all
}

func streamNetwork(name string, c func(string, ...client.Option) *client.Client) Network {
	return Network{
		Name: name, Server: serverOf(name), Client: c, Address: func(dir string) string { return address(name, dir) },
		Dial:   func(addr string) (net.Conn, error) { return net.DialTimeout(name, addr, patience) },
		Listen: func(addr string) (net.Listener, error) { return net.Listen(name, addr) },
		Wire:   func(bool) Wire { return streamWire{} },
	}
}

func webSocketNetwork() Network {
	n := streamNetwork(TCP, nil)
	n.Name, n.Server = WebSocket, serverOf(WebSocket)
	n.Client = func(addr string, opts ...client.Option) *client.Client {
		return client.NewWebsocket("ws://"+addr+"/", opts...)
	}
	n.Wire = func(dials bool) Wire { return wsWire{client: dials} }
	n.Greet = func(p *Peer) { require.Equal(p.t, http.StatusSwitchingProtocols, p.Upgrade("/").StatusCode) }
	n.Answer = (*Peer).answer
	return n
}

func serverOf(network string) func(opts ...server.Option) *server.Server {
	return func(opts ...server.Option) *server.Server { return server.New(server.Network(network), opts...) }
}

var sockets atomic.Int64

// address returns an address to listen on: a free port, or a path below dir.
func address(network, dir string) string {
	if network == Unix {
		return filepath.Join(dir, strconv.FormatInt(sockets.Add(1), 10))
	}
	return "127.0.0.1:0"
}

// accept takes the one connection that is made to ln.
func accept(ln net.Listener) (net.Conn, error) {
	if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
		if err := d.SetDeadline(time.Now().Add(patience)); err != nil {
			return nil, err
		}
	}
	return ln.Accept()
}
