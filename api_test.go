package gateway_test

import (
	"context"
	"iter"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// The public contract, pinned at compile time: a signature that changes doesn't build.

// Package gateway.
var (
	_ time.Duration = gateway.DefaultEndpointReconnectInterval
	_ int           = gateway.DefaultEndpointConnectionPoolSize

	_ error = gateway.ErrEndpointNotExists
	_ error = gateway.ErrGatewayClosed
	_ error = gateway.ErrGatewayRunning
	_ error = gateway.ErrConnectionNotFount
	_ error = gateway.ErrConnectionNotFound

	_ func(string, []byte) ([]byte, error)                            = gateway.MarshalGatewayOutPacket
	_ func([]byte) (string, []byte, error)                            = gateway.UnmarshalGatewayOutPacket
	_ func(string, int64, []byte) ([]byte, error)                     = gateway.MarshalGatewayInPacket
	_ func([]byte) (string, int64, []byte, error)                     = gateway.UnmarshalGatewayInPacket
	_ func(*gateway.Gateway, *server.Conn)                            = gateway.ConnectionOpenedEventHandle(nil)
	_ func(*gateway.Gateway, *server.Conn)                            = gateway.ConnectionClosedEventHandle(nil)
	_ func(*gateway.Gateway, *server.Conn, []byte)                    = gateway.ConnectionReceivePacketEventHandle(nil)
	_ func(*gateway.Gateway, *gateway.Endpoint)                       = gateway.EndpointConnectOpenedEventHandle(nil)
	_ func(*gateway.Gateway, *gateway.Endpoint)                       = gateway.EndpointConnectClosedEventHandle(nil)
	_ func(endpoints []*gateway.Endpoint) *gateway.Endpoint           = gateway.EndpointSelector(nil)
	_ func(*gateway.Gateway, *gateway.Endpoint, *server.Conn, []byte) = gateway.EndpointConnectReceivePacketEventHandle(nil)

	_ func(*gateway.Endpoint)                                                   = gateway.EndpointOption(nil)
	_ func(func(float64) float64) gateway.EndpointOption                        = gateway.WithEndpointStateEvaluator
	_ func(int) gateway.EndpointOption                                          = gateway.WithEndpointConnectionPoolSize
	_ func(time.Duration) gateway.EndpointOption                                = gateway.WithEndpointReconnectInterval
	_ func(string, *client.Client, ...gateway.EndpointOption) *gateway.Endpoint = gateway.NewEndpoint
	_ func(*gateway.Endpoint) string                                            = (*gateway.Endpoint).GetName
	_ func(*gateway.Endpoint) string                                            = (*gateway.Endpoint).GetAddress
	_ func(*gateway.Endpoint) float64                                           = (*gateway.Endpoint).GetState
	_ func(*gateway.Endpoint, *server.Conn, []byte, ...func(error))             = (*gateway.Endpoint).Forward

	_ func(*gateway.Gateway)                                                    = gateway.Option(nil)
	_ func(gateway.EndpointSelector) gateway.Option                             = gateway.WithEndpointSelector
	_ func(*server.Server, gateway.Scanner, ...gateway.Option) *gateway.Gateway = gateway.NewGateway
	_ func(*gateway.Gateway, string) error                                      = (*gateway.Gateway).Run
	_ func(*gateway.Gateway)                                                    = (*gateway.Gateway).Shutdown
	_ func(*gateway.Gateway, context.Context) error                             = (*gateway.Gateway).ShutdownContext
	_ func(*gateway.Gateway) *server.Server                                     = (*gateway.Gateway).Server
	_ func(*gateway.Gateway) iter.Seq[*gateway.Endpoint]                        = (*gateway.Gateway).Endpoints
	_ func(*gateway.Gateway, string) (*gateway.Endpoint, error)                 = (*gateway.Gateway).GetEndpoint
	_ func(*gateway.Gateway, string, *server.Conn) (*gateway.Endpoint, error)   = (*gateway.Gateway).GetConnEndpoint
	_ func(*gateway.Gateway, *gateway.Endpoint, *gateway.Endpoint)              = (*gateway.Gateway).SwitchEndpoint

	_ func(*gateway.Gateway, gateway.ConnectionOpenedEventHandle, ...int)             = (*gateway.Gateway).RegConnectionOpenedEventHandle
	_ func(*gateway.Gateway, *server.Conn)                                            = (*gateway.Gateway).OnConnectionOpenedEvent
	_ func(*gateway.Gateway, gateway.ConnectionClosedEventHandle, ...int)             = (*gateway.Gateway).RegConnectionClosedEventHandle
	_ func(*gateway.Gateway, *server.Conn)                                            = (*gateway.Gateway).OnConnectionClosedEvent
	_ func(*gateway.Gateway, gateway.ConnectionReceivePacketEventHandle, ...int)      = (*gateway.Gateway).RegConnectionReceivePacketEventHandle
	_ func(*gateway.Gateway, *server.Conn, []byte)                                    = (*gateway.Gateway).OnConnectionReceivePacketEvent
	_ func(*gateway.Gateway, gateway.EndpointConnectOpenedEventHandle, ...int)        = (*gateway.Gateway).RegEndpointConnectOpenedEventHandle
	_ func(*gateway.Gateway, *gateway.Endpoint)                                       = (*gateway.Gateway).OnEndpointConnectOpenedEvent
	_ func(*gateway.Gateway, gateway.EndpointConnectClosedEventHandle, ...int)        = (*gateway.Gateway).RegEndpointConnectClosedEventHandle
	_ func(*gateway.Gateway, *gateway.Endpoint)                                       = (*gateway.Gateway).OnEndpointConnectClosedEvent
	_ func(*gateway.Gateway, gateway.EndpointConnectReceivePacketEventHandle, ...int) = (*gateway.Gateway).RegEndpointConnectReceivePacketEventHandle
	_ func(*gateway.Gateway, *gateway.Endpoint, *server.Conn, []byte)                 = (*gateway.Gateway).OnEndpointConnectReceivePacketEvent
)

// scannerShape is the contract's Scanner.
type scannerShape interface {
	GetEndpoints() ([]*gateway.Endpoint, error)
	GetInterval() time.Duration
}

var (
	_ gateway.Scanner = scannerShape(nil)
	_ scannerShape    = gateway.Scanner(nil)
)

// Package server.
var (
	_ []server.Network = []server.Network{
		server.NetworkNone, server.NetworkTcp, server.NetworkTcp4, server.NetworkTcp6, server.NetworkUdp, server.NetworkUdp4,
		server.NetworkUdp6, server.NetworkUnix, server.NetworkWebsocket, server.NetworkKcp,
	}
	_ func() []server.Network                                  = server.GetNetworks
	_ func(server.Network) bool                                = server.Network.IsSocket
	_ time.Duration                                            = server.DefaultWebsocketReadDeadline
	_ func(*server.Server)                                     = server.Option(nil)
	_ func(server.Network, ...server.Option) *server.Server    = server.New
	_ func(*server.Server, string) error                       = (*server.Server).Run
	_ func(*server.Server)                                     = (*server.Server).Shutdown
	_ func(*server.Server) server.Network                      = (*server.Server).GetNetwork
	_ func(*server.Server) bool                                = (*server.Server).IsSocket
	_ func(*server.Server, string) *server.Conn                = (*server.Server).GetOnline
	_ func(*server.Server) int                                 = (*server.Server).GetOnlineCount
	_ func(*server.Server) map[string]*server.Conn             = (*server.Server).GetOnlineAll
	_ func(*server.Server, string) bool                        = (*server.Server).IsOnline
	_ func(*server.Server, string)                             = (*server.Server).CloseConn
	_ func(*server.Server, []byte, ...func(*server.Conn) bool) = (*server.Server).Broadcast

	_ func(time.Duration) server.Option                                                   = server.WithDeadlockDetect
	_ func(time.Duration) server.Option                                                   = server.WithLowMessageDuration
	_ func(string, string) server.Option                                                  = server.WithTLS
	_ func(time.Duration) server.Option                                                   = server.WithLimitLife
	_ func(int) server.Option                                                             = server.WithPacketWarnSize
	_ func(int) server.Option                                                             = server.WithConnWriteBufferSize
	_ func(int) server.Option                                                             = server.WithConnWriteBufferBytes
	_ func(time.Duration) server.Option                                                   = server.WithWebsocketReadDeadline
	_ func(*websocket.Upgrader) server.Option                                             = server.WithWebsocketUpgrade
	_ func(...int) server.Option                                                          = server.WithWebsocketMessageType
	_ func(int) server.Option                                                             = server.WithWebsocketCompression
	_ func() server.Option                                                                = server.WithWebsocketWriteCompression
	_ func() server.Option                                                                = server.WithAsyncHandlers
	_ func() server.Option                                                                = server.WithSerialHandlers
	_ func(func(http.ResponseWriter, *http.Request, *websocket.Conn) error) server.Option = server.WithWebsocketConnInitializer

	_ func(*server.Server)                                             = server.StartBeforeEventHandler(nil)
	_ func(*server.Server)                                             = server.StartFinishEventHandler(nil)
	_ func(*server.Server)                                             = server.MessageReadyEventHandler(nil)
	_ func(*server.Server)                                             = server.StopEventHandler(nil)
	_ func(*server.Server, *server.Conn)                               = server.ConnectionOpenedEventHandler(nil)
	_ func(*server.Server, *server.Conn)                               = server.ConnectionOpenedAfterEventHandler(nil)
	_ func(*server.Server, *server.Conn, any)                          = server.ConnectionClosedEventHandler(nil)
	_ func(*server.Server, *server.Conn, []byte)                       = server.ConnectionReceivePacketEventHandler(nil)
	_ func(*server.Server, *server.Conn, []byte) []byte                = server.ConnectionWritePacketBeforeEventHandler(nil)
	_ func(*server.Server, *server.Conn, []byte, func(), func([]byte)) = server.ConnectionPacketPreprocessEventHandler(nil)

	_ func(*server.Server, server.StartBeforeEventHandler, ...int)                 = (*server.Server).RegStartBeforeEvent
	_ func(*server.Server, server.StartFinishEventHandler, ...int)                 = (*server.Server).RegStartFinishEvent
	_ func(*server.Server, server.MessageReadyEventHandler, ...int)                = (*server.Server).RegMessageReadyEvent
	_ func(*server.Server, server.StopEventHandler, ...int)                        = (*server.Server).RegStopEvent
	_ func(*server.Server, server.ConnectionOpenedEventHandler, ...int)            = (*server.Server).RegConnectionOpenedEvent
	_ func(*server.Server, server.ConnectionOpenedAfterEventHandler, ...int)       = (*server.Server).RegConnectionOpenedAfterEvent
	_ func(*server.Server, server.ConnectionClosedEventHandler, ...int)            = (*server.Server).RegConnectionClosedEvent
	_ func(*server.Server, server.ConnectionPacketPreprocessEventHandler, ...int)  = (*server.Server).RegConnectionPacketPreprocessEvent
	_ func(*server.Server, server.ConnectionReceivePacketEventHandler, ...int)     = (*server.Server).RegConnectionReceivePacketEvent
	_ func(*server.Server, server.ConnectionWritePacketBeforeEventHandler, ...int) = (*server.Server).RegConnectionWritePacketBeforeEvent

	_ func(*server.Conn) string                    = (*server.Conn).GetID
	_ func(*server.Conn) string                    = (*server.Conn).GetIP
	_ func(*server.Conn) net.Addr                  = (*server.Conn).RemoteAddr
	_ func(*server.Conn) *server.Server            = (*server.Conn).GetServer
	_ func(*server.Conn) time.Time                 = (*server.Conn).GetOpenTime
	_ func(*server.Conn) time.Duration             = (*server.Conn).GetOnlineTime
	_ func(*server.Conn) *http.Request             = (*server.Conn).GetWebsocketRequest
	_ func(*server.Conn) bool                      = (*server.Conn).IsWebsocket
	_ func(*server.Conn) bool                      = (*server.Conn).IsClosed
	_ func(*server.Conn) int                       = (*server.Conn).GetWST
	_ func(*server.Conn, int) *server.Conn         = (*server.Conn).SetWST
	_ func(*server.Conn, string, any) *server.Conn = (*server.Conn).SetData
	_ func(*server.Conn, string) any               = (*server.Conn).GetData
	_ func(*server.Conn, string, any) *server.Conn = (*server.Conn).SetMessageData
	_ func(*server.Conn, string) any               = (*server.Conn).GetMessageData
	_ func(*server.Conn, []byte, ...func(error))   = (*server.Conn).Write
	_ func(*server.Conn, ...error)                 = (*server.Conn).Close
)

// Package client.
var (
	_ func(string) *client.Client                                             = func(a string) *client.Client { return client.NewWebsocket(a) }
	_ func(string) *client.Client                                             = func(a string) *client.Client { return client.NewTCP(a) }
	_ func(string) *client.Client                                             = func(a string) *client.Client { return client.NewUnixDomainSocket(a) }
	_ func(client.Core) *client.Client                                        = client.NewClient
	_ func(*client.Client) *client.Client                                     = client.CloneClient
	_ func(*client.Packet) int                                                = (*client.Packet).Type
	_ func(*client.Packet) []byte                                             = (*client.Packet).Bytes
	_ func(*client.Client, ...bool) error                                     = (*client.Client).Run
	_ func(*client.Client, int, ...bool) error                                = (*client.Client).RunByBufferSize
	_ func(*client.Client, ...error)                                          = (*client.Client).Close
	_ func(*client.Client) bool                                               = (*client.Client).IsConnected
	_ func(*client.Client, []byte, ...func(error))                            = (*client.Client).Write
	_ func(*client.Client, int, []byte, ...func(error))                       = (*client.Client).WriteWS
	_ func(*client.Client) string                                             = (*client.Client).GetServerAddr
	_ func(*client.Client)                                                    = client.ConnectionOpenedEventHandle(nil)
	_ func(*client.Client, any)                                               = client.ConnectionClosedEventHandle(nil)
	_ func(*client.Client, int, []byte)                                       = client.ConnectionReceivePacketEventHandle(nil)
	_ func(*client.Client, client.ConnectionOpenedEventHandle, ...int)        = (*client.Client).RegConnectionOpenedEvent
	_ func(*client.Client, client.ConnectionClosedEventHandle, ...int)        = (*client.Client).RegConnectionClosedEvent
	_ func(*client.Client, client.ConnectionReceivePacketEventHandle, ...int) = (*client.Client).RegConnectionReceivePacketEvent
)

// coreShape is the contract's Core.
type coreShape interface {
	Run(runState chan<- error, receive func(wst int, packet []byte))
	Write(packet *client.Packet) error
	Close()
	GetServerAddr() string
	Clone() client.Core
}

var (
	_ client.Core = coreShape(nil)
	_ coreShape   = client.Core(nil)
)

// TestContractValues checks what a signature can't say.
func TestContractValues(t *testing.T) {
	assert.Equal(t, time.Second, gateway.DefaultEndpointReconnectInterval)
	assert.Equal(t, 1, gateway.DefaultEndpointConnectionPoolSize)
	assert.EqualError(t, gateway.ErrEndpointNotExists, "gateway: endpoint not exists")
	assert.EqualError(t, gateway.ErrGatewayClosed, "gateway: gateway closed")
	assert.EqualError(t, gateway.ErrGatewayRunning, "gateway: gateway running")
	assert.EqualError(t, gateway.ErrConnectionNotFount, "gateway: connection not found")
	assert.Same(t, gateway.ErrConnectionNotFount, gateway.ErrConnectionNotFound)
	assert.ErrorIs(t, gateway.ErrGatewayClosed, net.ErrClosed)

	assert.Equal(t, []server.Network{"none", "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6", "unix", "websocket", "kcp"}, server.GetNetworks())
	for _, network := range server.GetNetworks() {
		assert.Equal(t, network != server.NetworkNone, network.IsSocket(), network)
	}
	assert.Equal(t, []int{1, 2, 8, 9, 10}, []int{
		server.WebsocketMessageTypeText, server.WebsocketMessageTypeBinary, server.WebsocketMessageTypeClose,
		server.WebsocketMessageTypePing, server.WebsocketMessageTypePong,
	})
	assert.Equal(t, 30*time.Second, server.DefaultWebsocketReadDeadline)
	assert.Equal(t, 1<<20, server.DefaultPacketWarnSize)
	assert.Equal(t, 1024, server.DefaultConnWriteBufferSize)
}
