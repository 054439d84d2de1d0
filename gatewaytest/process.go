package gatewaytest

import (
	"sync"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/server"
)

// backendProcess is an endpoint that speaks the session protocol.
type backendProcess struct {
	*host
	backend *gateway.Backend // static

	mu      sync.Mutex // guards the next
	players map[string]*server.Conn
}

func newBackendProcess(e *Endpoint) process {
	p := &backendProcess{host: newHost(e), players: map[string]*server.Conn{}}
	p.backend = gateway.NewBackend(p.srv, e.options...)
	p.srv.RegConnectionOpenedEvent(p.opened)
	p.srv.RegConnectionReceivePacketEvent(p.received)
	p.srv.RegConnectionClosedEvent(p.closed)
	p.start()
	return p
}

func (p *backendProcess) opened(_ *server.Server, conn *server.Conn) {
	player := addressOf(conn)
	p.mu.Lock()
	p.players[player] = conn
	p.mu.Unlock()
	p.add(Event{Kind: Opened, Player: player, Packet: p.backend.MoveState(conn)})
}

func (p *backendProcess) received(_ *server.Server, conn *server.Conn, packet []byte) {
	player := addressOf(conn)
	p.add(Event{Kind: Received, Player: player, Packet: copyOf(packet)})
	for _, answer := range p.endpoint.answers(player, packet, p.ended) {
		conn.Write(answer)
	}
}

func (p *backendProcess) closed(_ *server.Server, conn *server.Conn, err any) {
	player := addressOf(conn)
	p.mu.Lock()
	if now := p.players[player]; now != nil && now.GetID() == conn.GetID() { // it may have come back already
		delete(p.players, player)
	}
	p.mu.Unlock()
	p.add(Event{Kind: Closed, Player: player, Err: reasonOf(err)})
}

func (p *backendProcess) find(player string) *server.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.players[player]
}

func (p *backendProcess) write(player string, packet []byte) bool {
	conn := p.find(player)
	if conn != nil {
		conn.Write(packet)
	}
	return conn != nil
}

// plainProcess is an endpoint that is written with the two codecs.
type plainProcess struct {
	*host

	mu    sync.Mutex              // guards the next
	links map[string]*server.Conn // that each player's last packet came over
}

// nobody is whom control packets are addressed to.
const nobody = "0.0.0.0:0"

func newPlainProcess(e *Endpoint) process {
	p := &plainProcess{host: newHost(e, server.WithLinks()), links: map[string]*server.Conn{}}
	p.srv.RegConnectionReceivePacketEvent(p.received)
	p.start()
	return p
}

func (p *plainProcess) received(_ *server.Server, link *server.Conn, data []byte) {
	player, packet, err := gateway.UnmarshalGatewayOutPacket(data)
	if err != nil {
		p.endpoint.t.Errorf("gatewaytest: %s got what is no gateway's: %v", p.endpoint.who, err)
		return
	}
	if player == nobody {
		return
	}
	p.mu.Lock()
	p.links[player] = link
	p.mu.Unlock()
	p.add(Event{Kind: Received, Player: player, Packet: copyOf(packet)})
	for _, answer := range p.endpoint.answers(player, packet, p.ended) {
		p.write(player, answer)
	}
}

func (p *plainProcess) write(player string, packet []byte) bool {
	p.mu.Lock()
	link := p.links[player]
	p.mu.Unlock()
	data, err := gateway.MarshalGatewayInPacket(player, 0, packet)
	if link == nil || err != nil {
		return false
	}
	link.Write(data)
	return true
}
