package client

import (
	"time"

	"github.com/minotaur-gateway/gateway/internal/hook"
)

// The types of the handlers. A panic in one is recovered, logged, and ends the connection.
type (
	// ConnectionOpenedEventHandle runs on Run's goroutine, before the first packet.
	ConnectionOpenedEventHandle func(conn *Client)
	// ConnectionClosedEventHandle runs once for each opened event, after the last packet and after the last write
	// callback. err is nil after an orderly end from either side, and else what Close was given or what went wrong. The
	// handler may Run the client again.
	ConnectionClosedEventHandle func(conn *Client, err any)
	// ConnectionReceivePacketEventHandle runs on the goroutine that reads, packet after packet. packet belongs to it.
	ConnectionReceivePacketEventHandle func(conn *Client, wst int, packet []byte)
	// PongEventHandle gets the delay of a ping that was answered, on the goroutine that reads. WebSocket only.
	PongEventHandle func(conn *Client, delay time.Duration)
)

type events struct {
	opened  hook.List[ConnectionOpenedEventHandle]
	closed  hook.List[ConnectionClosedEventHandle]
	receive hook.List[ConnectionReceivePacketEventHandle]
	pong    hook.List[PongEventHandle]
}

// RegConnectionOpenedEvent registers handle. Of all events: a lower priority runs earlier, the default is 0, and
// registering is allowed at any time, from any goroutine.
func (c *Client) RegConnectionOpenedEvent(handle ConnectionOpenedEventHandle, priority ...int) {
	c.events.opened.Add(handle, priority...)
}

// RegConnectionClosedEvent registers handle.
func (c *Client) RegConnectionClosedEvent(handle ConnectionClosedEventHandle, priority ...int) {
	c.events.closed.Add(handle, priority...)
}

// RegConnectionReceivePacketEvent registers handle.
func (c *Client) RegConnectionReceivePacketEvent(handle ConnectionReceivePacketEventHandle, priority ...int) {
	c.events.receive.Add(handle, priority...)
}

// RegPongEvent registers handle.
func (c *Client) RegPongEvent(handle PongEventHandle, priority ...int) {
	c.events.pong.Add(handle, priority...)
}
