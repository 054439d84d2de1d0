package server_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// An endpoint answers so: the handler marks the message, keeps its conn, and a goroutine writes later.
func TestConnKeptByHandler(t *testing.T) {
	h := newHost(ws)
	h.RegConnectionWritePacketBeforeEvent(func(_ *server.Server, conn *server.Conn, packet []byte) []byte {
		return fmt.Appendf(nil, "%v/%v:%s", conn.GetMessageData("number"), conn.GetData("shared"), packet)
	})
	h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) {
		conn.SetMessageData("number", string(packet)).SetData("shared", "all of "+string(packet))
		if string(packet) == "3" {
			conn.SetWST(binary)
		}
	}, -1)
	h.start(t)
	p, _ := h.dial(t)
	var kept []*server.Conn
	for i, kind := range []int{text, text, binary, text, binary} {
		p.Write(kind, fmt.Append(nil, i))
		kept = append(kept, h.next(t).conn)
	}
	for i, conn := range kept { // later than all handlers
		go conn.Write([]byte("late"))
		want := []int{text, text, binary, binary, binary}[i]
		p.Expect(want, fmt.Appendf(nil, "%d/all of 4:late", i))
		assert.Equal(t, want, conn.GetWST())
		assert.Equal(t, fmt.Sprint(i), conn.GetMessageData("number"))
		assert.Equal(t, kept[0].GetID(), conn.GetID())
	}
}

func TestConnTypes(t *testing.T) {
	h := serve(t, ws)
	p, conn := h.dial(t)
	assert.Equal(t, text, conn.GetWST(), "before the first message")
	conn.Write([]byte("opening"))
	p.Expect(text, []byte("opening"))

	p.Write(binary, []byte("b"))
	got := h.next(t).conn
	assert.Equal(t, binary, got.GetWST())
	assert.True(t, got == got.SetWST(text))
	got.Write([]byte("as text"))
	p.Expect(text, []byte("as text"))

	p.Write(binary, []byte("b"))
	assert.Equal(t, binary, h.next(t).conn.GetWST(), "SetWST is for one message")
	assert.Equal(t, binary, h.GetOnline(conn.GetID()).GetWST(), "the type used last")

	got.SetWST(5)
	err := await(t, write(got, []byte("no such type")), "callback")
	assert.ErrorContains(t, err, "5")
	got.SetWST(none).Write([]byte("none"))
	p.Expect(binary, []byte("none"))
}

// What one caller sets outside of messages shows nowhere else.
func TestConnOutsideOfMessages(t *testing.T) {
	h := serve(t, tcp)
	p, conn := h.dial(t)
	h.GetOnline(conn.GetID()).SetMessageData("mine", 1)
	for _, all := range h.GetOnlineAll() {
		assert.Nil(t, all.GetMessageData("mine"))
		all.SetMessageData("mine", 2)
	}
	p.Write(binary, []byte("a"))
	got := h.next(t).conn
	assert.Nil(t, got.GetMessageData("mine"))
	got.SetMessageData("mine", 3)
	assert.Nil(t, h.GetOnline(conn.GetID()).GetMessageData("mine"))
	assert.Equal(t, 3, got.GetMessageData("mine"))
	assert.Nil(t, got.SetMessageData("mine", nil).GetMessageData("mine"))

	fresh := got.View().SetMessageData("mine", 4)
	assert.Nil(t, got.View().GetMessageData("mine"))
	assert.Equal(t, 4, fresh.GetMessageData("mine"))
}

func TestConnData(t *testing.T) {
	h := serve(t, ws)
	p := conformance.Dial(t, ws, h.addr, "/?name=Ann&tag=a&tag=b&empty=&space=a%20b")
	conn := await(t, h.opened, "opened event")
	assert.Equal(t, "Ann", conn.GetData("name"))
	assert.Equal(t, []string{"a", "b"}, conn.GetData("tag"))
	assert.Equal(t, "", conn.GetData("empty"))
	assert.Equal(t, "a b", conn.GetData("space"))
	assert.Nil(t, conn.GetData("missing"))

	assert.True(t, conn == conn.SetData("level", 7))
	p.Write(text, []byte("a"))
	later := h.next(t).conn
	assert.Equal(t, 7, later.GetData("level"), "data lives as long as the connection")
	assert.Nil(t, later.SetData("name", nil).GetData("name"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { conn.SetData(fmt.Sprint(i), i); later.GetData(fmt.Sprint(i)) })
	}
	wg.Wait()
	for i := range 8 {
		assert.Equal(t, i, conn.GetData(fmt.Sprint(i)))
	}
	assert.Nil(t, conn.Attachment())
	conn.SetAttachment(&wg)
	assert.Same(t, &wg, later.Attachment())
}

func TestConnRequest(t *testing.T) {
	h := serve(t, ws)
	long := strings.Repeat("x", 3000)
	conformance.Dial(t, ws, h.addr, "/lobby?a=1", "X-Real-IP: 6.6.6.6", "X-Forwarded-For: 6.6.6.6", "X-Token: secret",
		"X-Long: "+long, "X-Longer: "+long)
	conn := await(t, h.opened, "opened event")
	req := conn.GetWebsocketRequest()
	require.NotNil(t, req)
	assert.Equal(t, "/lobby?a=1", req.URL.RequestURI())
	assert.Equal(t, "game.test", req.Host)
	assert.Equal(t, "secret", req.Header.Get("X-Token"))
	assert.Equal(t, conn.RemoteAddr().String(), req.RemoteAddr)
	assert.False(t, req.Header.Get("X-Long") != "" && req.Header.Get("X-Longer") != "", "a head of 4 KiB holds one of them")
	assert.NotSame(t, req, conn.GetWebsocketRequest(), "parsed when asked")
	assert.True(t, conn.IsWebsocket())
	assert.Equal(t, "127.0.0.1", conn.GetIP(), "no header is believed")

	// A query that is too long is kept as data only.
	conformance.Dial(t, ws, h.addr, "/lobby?token="+strings.Repeat("y", 5000))
	conn = await(t, h.opened, "opened event")
	req = conn.GetWebsocketRequest()
	require.NotNil(t, req)
	assert.Equal(t, "/lobby", req.URL.RequestURI())
	assert.Len(t, conn.GetData("token"), 5000)

	p := conformance.NewPeer(t, conformance.DialRaw(t, ws, h.addr), ws)
	assert.Equal(t, 414, p.Upgrade("/"+strings.Repeat("z", 5000)).StatusCode)
}

func TestConnIdentity(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		h := serve(t, tcp)
		p, conn := h.dial(t)
		assert.Equal(t, p.Conn.LocalAddr().String(), conn.GetID())
		assert.Equal(t, "127.0.0.1", conn.GetIP())
		assert.Nil(t, conn.GetWebsocketRequest())
		assert.False(t, conn.IsWebsocket())
		assert.True(t, h.Server == conn.GetServer())
		assert.Equal(t, none, conn.GetWST())
	})
	t.Run("unix", func(t *testing.T) {
		h := serve(t, unix)
		_, first := h.dial(t)
		_, second := h.dial(t)
		assert.Equal(t, "unix:1", first.GetID())
		assert.Equal(t, "unix:2", second.GetID())
		assert.Empty(t, first.GetIP())
	})
	t.Run("memory", func(t *testing.T) {
		h := serveMemory(t, tcp)
		_, first := h.dial(t)
		_, second := h.dial(t)
		assert.Equal(t, []string{"pipe:1", "pipe:2"}, []string{first.GetID(), second.GetID()})
	})
	addrs := map[string]struct {
		addr   net.Addr
		id, ip string
	}{
		"v6":          {net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:7")), "[2001:db8::1]:7", "2001:db8::1"},
		"v6 zone":     {&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 7, Zone: "eth0"}, "[fe80::1%eth0]:7", "fe80::1"},
		"none at all": {nil, "tcp:1", ""},
		"own names":   {&net.UnixAddr{Net: "mars", Name: "rover"}, "rover", ""},
	}
	for name, tt := range addrs {
		t.Run(name, func(t *testing.T) {
			h, accept := serveCustom(t)
			accept(newFakeConn(tt.addr))
			conn := await(t, h.opened, "opened event")
			assert.Equal(t, tt.id, conn.GetID())
			assert.Equal(t, tt.ip, conn.GetIP())
			accept(newFakeConn(tt.addr))
			twin := await(t, h.opened, "opened event")
			assert.NotEqual(t, conn.GetID(), twin.GetID(), "unique among the living")
			assert.Len(t, h.GetOnlineAll(), 2)
		})
	}
}

func TestConnTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		h := serveMemory(t, tcp)
		_, conn := h.dial(t)
		<-time.After(time.Minute)
		assert.Equal(t, begun, conn.GetOpenTime())
		assert.Equal(t, time.Minute, conn.GetOnlineTime())
	})
}

func TestConnIsClosed(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network)
			p, conn := h.dial(t)
			assert.False(t, conn.IsClosed())
			conn.Close()
			assert.True(t, conn.IsClosed(), "at once")
			p.ExpectFarewell(1000)
			p.Farewell()
			assert.Nil(t, h.end(t))

			p, conn = h.dial(t)
			p.Farewell()
			assert.Nil(t, h.end(t))
			assert.True(t, conn.IsClosed(), "the peer left")
			conn.Close(errors.New("too late"))
		})
	}
}

func TestCloseWith(t *testing.T) {
	h := serve(t, ws)
	p, conn := h.dial(t)
	reason := errors.New("kicked by Bob")
	conn.CloseWith(4001, "kicked", reason)
	_, _, err := p.Read()
	assert.Equal(t, &conformance.Farewell{Code: 4001, Reason: "kicked"}, err)
	p.Farewell()
	assert.Equal(t, reason, h.end(t))

	p, conn = h.dial(t)
	conn.CloseWith(4002, "")
	p.ExpectFarewell(4002)
	p.Farewell()
	assert.Nil(t, h.end(t))
}

// What ended a connection first stays its reason, though it takes a moment until handlers hear of it.
func TestFirstReasonStays(t *testing.T) {
	for _, network := range networks {
		h := serve(t, network, server.WithMaxPacketSize(10))
		p, conn := h.dial(t)
		p.Write(binary, make([]byte, 11))
		p.ExpectFarewell(1009)
		conn.Close(errors.New("too late"))
		p.Cut()
		assert.ErrorIs(t, h.endError(t), server.ErrPacketTooLarge)

		p, conn = h.dial(t)
		first := errors.New("first")
		conn.Close(first)
		conn.Close(errors.New("second"))
		h.Shutdown()
		p.Cut()
		assert.Equal(t, first, h.end(t))
	}
}

// Packets that arrive after a handler has closed the connection reach no handler.
func TestNothingAfterClose(t *testing.T) {
	for mode, opts := range map[string][]server.Option{"direct": nil, "async": {server.WithAsyncHandlers()}, "serial": {server.WithSerialHandlers()}} {
		t.Run(mode, func(t *testing.T) {
			h := newHost(tcp, opts...)
			h.RegConnectionReceivePacketEvent(func(_ *server.Server, conn *server.Conn, packet []byte) { conn.Close() }, 1)
			h.start(t)
			p, _ := h.dial(t)
			p.Send([]byte("\x00\x00\x00\x01a\x00\x00\x00\x01b\x00\x00\x00\x01c"))
			assert.Equal(t, "a", h.next(t).data)
			p.ExpectFarewell(0)
			p.Farewell()
			assert.Nil(t, h.end(t))
			assert.Empty(t, h.packets)
			assert.EqualValues(t, 2, h.Stats().PacketsDiscarded)
			assert.EqualValues(t, 3, h.Stats().PacketsReceived)
		})
	}
}
