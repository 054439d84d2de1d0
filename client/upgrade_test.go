package client_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/internal/wsframe"
	"github.com/minotaur-gateway/gateway/server"
)

// answerWith answers the request for a WebSocket on conn, with more fields and then early behind it, in one write.
func answerWith(t testing.TB, conn net.Conn, fields string, early []byte) *bufio.Reader {
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if !assert.NoError(t, err) {
		return nil
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s\r\n%s", base64.StdEncoding.EncodeToString(sum[:]), fields, early)
	assert.NoError(t, err)
	return r
}

// What comes in the segment of the answer, or half of it, is read like all the rest.
func TestFramesBehindTheAnswer(t *testing.T) {
	var early []byte
	for i := range 500 {
		early = wsframe.Append(early, frame.KindText, numbered(i))
	}
	last := wsframe.Append(nil, frame.KindBinary, make([]byte, 50_000))
	early = append(early, last[:30_000]...)
	cert := newCertificate(t)
	for _, tt := range websockets(cert) {
		for name, bytes := range map[string][]byte{"nothing": nil, "a byte": early[:1], "a frame": early[:10], "much": early} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				addr := listen(t, func(tcp *net.TCPConn) {
					conn := net.Conn(tcp)
					if tt.secure {
						conn = cert.server(tcp)
					}
					if answerWith(t, conn, "", bytes) == nil {
						return
					}
					_, err := conn.Write(append(append([]byte{}, early[len(bytes):]...), last[30_000:]...))
					assert.NoError(t, err)
					_, _ = io.Copy(io.Discard, conn)
				})
				c := tt.client(addr)
				l := observe(c)
				require.NoError(t, c.Run())
				defer c.Abort(nil) // nobody answers a close frame
				for i := range 500 {
					require.Equal(t, received{frame.KindText, string(numbered(i))}, await(t, l.packets, "packet"))
				}
				assert.Len(t, await(t, l.packets, "packet").data, 50_000)
			})
		}
	}
}

// websockets are the ways in which a client has a WebSocket; loop_test.go adds the event loop.
func websockets(cert *certificate) []websocketWay {
	return append([]websocketWay{
		{"ws", false, func(addr string, opts ...client.Option) *client.Client {
			return client.NewWebsocket("ws://"+addr+"/ws", opts...)
		}},
		{"wss", true, func(addr string, opts ...client.Option) *client.Client {
			return client.NewWebsocket("wss://"+addr+"/ws", append(opts, client.WithTLS(cert.trusted()))...)
		}},
	}, moreWebsockets...)
}

type websocketWay struct {
	name   string
	secure bool
	client func(addr string, opts ...client.Option) *client.Client
}

var moreWebsockets []websocketWay

// A proxy is spoken to first, without TLS.
func TestWebsocketOverProxy(t *testing.T) {
	cert := newCertificate(t)
	for _, tt := range websockets(cert) {
		t.Run(tt.name, func(t *testing.T) {
			var opts []server.Option
			if tt.secure {
				opts = append(opts, server.WithTLS(cert.certFile, cert.keyFile))
			}
			b := serve(t, server.NetworkWebsocket, opts...).echo()
			asked := make(chan string, 1)
			proxy := listen(t, func(conn *net.TCPConn) {
				r := bufio.NewReader(conn)
				req, err := http.ReadRequest(r)
				if !assert.NoError(t, err) {
					return
				}
				asked <- req.Method + " " + req.Host
				there, err := net.Dial("tcp", req.Host)
				if !assert.NoError(t, err) {
					return
				}
				defer there.Close()
				_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				assert.NoError(t, err)
				done := make(chan struct{})
				go func() { defer close(done); _, _ = io.Copy(conn, there); _ = conn.CloseWrite() }()
				_, _ = io.Copy(there, r)
				_ = there.(*net.TCPConn).CloseWrite()
				<-done
			})
			c := tt.client(b.addr, client.WithProxy(&url.URL{Scheme: "http", Host: proxy}))
			l := observe(c)
			require.NoError(t, c.Run())
			c.Write([]byte("hello"))
			assert.Equal(t, "hello", await(t, l.packets, "echo").data)
			assert.Equal(t, "CONNECT "+b.addr, await(t, asked, "request"))
			c.Close()
			assert.Nil(t, await(t, l.closed, "closed event"))
			assert.Nil(t, await(t, b.closed, "end"), "the server sees an orderly end")
		})
	}
}

// An extension that was not offered would change what frames mean.
func TestWebsocketExtensionNotOffered(t *testing.T) {
	addr := listen(t, func(conn *net.TCPConn) {
		answerWith(t, conn, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n", nil)
	})
	c := client.NewWebsocket("ws://" + addr + "/")
	err := c.Run()
	require.ErrorIs(t, err, websocket.ErrBadHandshake)
	assert.ErrorContains(t, err, "extensions")
	assert.False(t, c.IsConnected())
}

// Nothing of what is behind an answer's head is handed out to who reads that head, however it is cut.
func FuzzUpgradeConn(f *testing.F) {
	f.Add("HTTP/1.1 101 OK\r\nA: b\r\n\r\n", "frames", uint8(1))
	f.Add("HTTP/1.1 101 OK\nA: b\n continued\n\n", "\n\r\n", uint8(7))
	f.Add("HTTP/1.1 101 OK\r\n\r\n", "", uint8(200))
	f.Fuzz(func(t *testing.T, head, behind string, size uint8) {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || len(head)+len(behind) > 1<<12 {
			t.Skip()
		}
		whole := bufio.NewReader(strings.NewReader(head + behind))
		_, err = http.ReadResponse(whole, nil)
		require.NoError(t, err)
		want, err := io.ReadAll(whole)
		require.NoError(t, err)

		near, far := net.Pipe()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for b := head + behind; len(b) > 0; {
				n := min(len(b), int(size)+1)
				if _, err := far.Write([]byte(b[:n])); err != nil {
					return
				}
				b = b[n:]
			}
			far.Close()
		}()
		asking, early := client.Asking(near)
		r := bufio.NewReader(asking)
		_, err = http.ReadResponse(r, nil)
		require.NoError(t, err)
		assert.Zero(t, r.Buffered())
		got := append([]byte(nil), early()...)
		rest, err := io.ReadAll(near)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(append(got, rest...)))
		near.Close()
		<-sent
	})
}
