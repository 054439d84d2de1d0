package server_test

import (
	"crypto/tls"
	"crypto/x509"
	order "encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/frame"
	"github.com/minotaur-gateway/gateway/server"
)

func TestFramers(t *testing.T) {
	long := string(make([]byte, 300))
	cases := []struct {
		name    string
		framer  server.Framer
		sent    string // by the peer, and echoed
		packets []string
	}{
		{"1 byte", server.LengthFramer(1, nil), "\x02hi\x00\x01!", []string{"hi", "", "!"}},
		{"2 bytes, big-endian", server.LengthFramer(2, order.BigEndian), "\x01\x2c" + long + "\x00\x01!", []string{long, "!"}},
		{"2 bytes, little-endian", server.LengthFramer(2, order.LittleEndian), "\x2c\x01" + long + "\x01\x00!", []string{long, "!"}},
		{"4 bytes, default order", server.LengthFramer(4, nil), "\x00\x00\x00\x02hi", []string{"hi"}},
		{"4 bytes, little-endian", server.LengthFramer(4, order.LittleEndian), "\x02\x00\x00\x00hi", []string{"hi"}},
		{"uvarint", server.UvarintFramer(), "\xac\x02" + long + "\x01!", []string{long, "!"}},
		{"line", server.LineFramer(), "hello\n\nworld\n", []string{"hello", "", "world"}},
	}
	for _, tt := range cases {
		for _, network := range []string{tcp, unix} {
			t.Run(tt.name+" "+network, func(t *testing.T) {
				h := serve(t, network, server.WithFramer(tt.framer)).echo()
				conn := conformance.DialRaw(t, network, h.addr)
				_, err := io.WriteString(conn, tt.sent)
				require.NoError(t, err)
				for _, want := range tt.packets {
					assert.Equal(t, want, h.next(t).data)
				}
				echoed := make([]byte, len(tt.sent))
				_, err = io.ReadFull(conn, echoed)
				require.NoError(t, err)
				assert.Equal(t, tt.sent, string(echoed))
			})
		}
	}
}

func TestLineFramerRefuses(t *testing.T) {
	h := serve(t, tcp, server.WithFramer(server.LineFramer()))
	conn := conformance.DialRaw(t, tcp, h.addr)
	_, err := io.WriteString(conn, "telnet says\r\n")
	require.NoError(t, err)
	got := h.next(t)
	assert.Equal(t, "telnet says", got.data)
	assert.ErrorContains(t, await(t, write(got.conn, []byte("two\nlines")), "callback"), "line feed")
	assert.NoError(t, await(t, write(got.conn, []byte("one line")), "callback"))
	answer := make([]byte, 9)
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	assert.Equal(t, "one line\n", string(answer), "and nothing of the other")
}

func TestRawFramer(t *testing.T) {
	h := serve(t, tcp, server.WithFramer(server.RawFramer()), server.WithMaxPacketSize(4)).echo()
	conn := conformance.DialRaw(t, tcp, h.addr)
	const sent = "no boundaries here"
	_, err := io.WriteString(conn, sent)
	require.NoError(t, err)
	echoed := make([]byte, len(sent))
	_, err = io.ReadFull(conn, echoed)
	require.NoError(t, err)
	assert.Equal(t, sent, string(echoed))
	for got := ""; got != sent; {
		chunk := h.next(t).data
		assert.LessOrEqual(t, len(chunk), 4)
		got += chunk
	}
}

// A packet that is begun has to be completed in time, however slowly its bytes come; a connection may be idle for ever.
func TestStreamPacketTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := serveMemory(t, tcp).echo()
		p, conn := h.dial(t)
		<-time.After(24 * time.Hour)
		p.Write(binary, []byte("still here"))
		p.Expect(binary, []byte("still here"))
		<-time.After(24 * time.Hour)
		assert.False(t, conn.IsClosed())

		begun := time.Now()
		for _, b := range p.Packet(binary, make([]byte, 100)) {
			if _, err := p.Conn.Write([]byte{b}); err != nil {
				break
			}
			<-time.After(time.Second)
		}
		assert.ErrorIs(t, h.endError(t), frame.ErrPacketTimeout)
		assert.InDelta(t, server.PacketTimeout, time.Since(begun), float64(time.Second))
	})
}

// A peer that doesn't read: the write timeout ends it, also while the server closes.
func TestStreamWriteTimeout(t *testing.T) {
	for _, closing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := serveMemory(t, tcp, server.WithWriteTimeout(7*time.Second))
			_, conn := h.dial(t)
			begun := time.Now()
			first, second := write(conn, []byte("a")), write(conn, []byte("b"))
			if closing {
				conn.Close()
			}
			err := <-first
			assert.Equal(t, 7*time.Second, time.Since(begun))
			assert.ErrorIs(t, <-second, net.ErrClosed)
			if closing {
				assert.Error(t, err)
				assert.Nil(t, h.end(t))
				return
			}
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.ErrorIs(t, err, server.ErrConnClosed)
			assert.ErrorIs(t, h.endError(t), os.ErrDeadlineExceeded)
		})
	}
}

// A TCP peer that doesn't end after the server did is cut off, and what it still sends meanwhile reaches nobody.
func TestStreamFarewellUnanswered(t *testing.T) {
	h := serve(t, tcp)
	p, conn := h.dial(t)
	begun := time.Now()
	conn.Close()
	p.Write(binary, []byte("but")) // at once: there is a second for it
	p.ExpectFarewell(0)
	assert.Nil(t, h.end(t))
	assert.GreaterOrEqual(t, time.Since(begun), server.LingerTimeout)
	assert.Empty(t, h.packets)
	assert.EqualValues(t, 1, h.Stats().PacketsDiscarded)
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			h := serve(t, network, server.WithTLS(cert, key)).echo()
			p := conformance.DialTLS(t, network, h.addr, "/", &tls.Config{RootCAs: pool, ServerName: "game.test"})
			p.Write(text, []byte("secret"))
			p.Expect(text, []byte("secret"))
			p.Farewell()
			p.ExpectFarewell(1000)
			assert.Nil(t, h.end(t))
			conn := await(t, h.opened, "opened event")
			if network != unix {
				assert.Equal(t, "127.0.0.1", conn.GetIP())
			}

			stranger := tls.Client(conformance.DialRaw(t, network, h.addr), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "game.test"})
			assert.Error(t, stranger.Handshake(), "it doesn't know the certificate")
			plain := conformance.DialRaw(t, network, h.addr)
			_, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: game.test\r\n\r\n")
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, plain)
			assert.EqualValues(t, 1, h.Stats().Opened)
		})
	}
}

func TestTLSBadFiles(t *testing.T) {
	cert, key, _ := certificate(t)
	otherCert, _, _ := certificate(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("no PEM"), 0o600))
	for name, files := range map[string][2]string{
		"missing": {filepath.Join(t.TempDir(), "missing"), key}, "no key": {cert, ""}, "no certificate": {"", key},
		"garbage": {garbage, key}, "not a pair": {otherCert, key},
	} {
		for _, network := range networks {
			err := newHost(network, server.WithTLS(files[0], files[1])).Run(address(t, network))
			assert.ErrorIs(t, err, server.ErrBadOption, name)
			assert.ErrorContains(t, err, files[0], name)
		}
	}
}

// A client that says nothing in the TLS handshake is given up, and Shutdown doesn't wait for one.
func TestTLSSilentHandshake(t *testing.T) {
	cert, key, _ := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	for _, network := range []string{tcp, ws} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(network)
			h.pipes = newPipeListener()
			server.Over(h.Server, tls.NewListener(h.pipes, &tls.Config{Certificates: []tls.Certificate{pair}}))
			h.start0(t)
			conn := h.pipes.dial()
			begun := time.Now()
			_, err := io.Copy(io.Discard, conn)
			assert.NoError(t, err)
			assert.Equal(t, server.HandshakeTimeout, time.Since(begun))

			h.pipes.dial()
			synctest.Wait()
			h.Shutdown()
			begun = time.Now()
			assert.NoError(t, <-h.ended)
			assert.Zero(t, time.Since(begun))
			assert.Zero(t, h.Stats().Opened)
		})
	}
}
