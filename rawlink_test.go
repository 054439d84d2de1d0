package gateway_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/gatewaytest"
)

// rawLink is a gateway's link, made by hand.
type rawLink struct {
	*client.Client
	got    chan []byte
	closed time.Time
}

func newRawLink(t *testing.T, net *gatewaytest.Network, addr string) *rawLink {
	l := &rawLink{Client: net.Client(addr), got: make(chan []byte, 1000)}
	l.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, data []byte) { l.got <- data })
	l.RegConnectionClosedEvent(func(*client.Client, any) { l.closed = time.Now() })
	require.NoError(t, l.Run())
	return l
}

// control sends a control packet.
func (l *rawLink) control(kind byte, body []byte) {
	l.Write(append([]byte{0xDE, 0xAD, 0xBE, 0xEF, 0, 0, 0, 0, 0, 0, kind}, body...))
}

// kinds is what the packets are that have come since the last call: 0 is data.
func (l *rawLink) kinds() []byte {
	synctest.Wait()
	all := []byte{}
	for len(l.got) > 0 {
		if packet := <-l.got; isControl(packet, false) {
			all = append(all, packet[10])
		} else {
			all = append(all, 0)
		}
	}
	return all
}

// The numbers of the control packets, as PROTOCOL.md has them.
const (
	hello, welcome, auth, readyState, open = 1, 2, 3, 4, 5
)

func helloBody(lowest, highest byte, nonce byte, secret []byte) []byte {
	b := append([]byte{lowest, highest}, bytes.Repeat([]byte{7}, 16)...)
	b = append(b, bytes.Repeat([]byte{nonce}, 32)...)
	b = append(b, 3, 'r', 'a', 'w')
	if secret == nil {
		return append(b, 0)
	}
	return append(append(b, 1), keyIDOf(secret)...)
}

func keyIDOf(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("gateway.v1 key id"), secret...))
	return sum[:8]
}

// proofOf is written from PROTOCOL.md, apart from the library's own. helloBody and welcome are as they were sent.
func proofOf(secret []byte, role string, hello, welcome []byte, exporter ...byte) []byte {
	mac := hmac.New(sha256.New, secret)
	field := func(b []byte) {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		mac.Write(b)
	}
	field([]byte(role))
	field(hello[:2])
	field(hello[2:18])
	field(hello[18:50])
	name := int(hello[50])
	field(hello[51 : 51+name])
	for ids := hello[52+name:]; len(ids) >= 8; ids = ids[8:] {
		field(ids[:8])
	}
	field(welcome[:1])
	field(welcome[1:17])
	field(welcome[17:49])
	name = int(welcome[49])
	field(welcome[50 : 50+name])
	field(welcome[51+name : 59+name])
	field(exporter) // none without TLS
	return mac.Sum(nil)
}

func openBodyFor(key []byte) []byte { return openBody(key, 1, 0) }

func resumedBodyFor(key []byte, number byte) []byte { return openBody(key, number, 1) }

func openBody(key []byte, number, flags byte) []byte {
	b := append(bytes.Clone(key), 0, 0, 0, number, flags)
	b = append(b, make([]byte, 16)...)
	return append(b, 0, 3, 't', 'c', 'p', 0, 0, 0, 0, 0, 0, 0)
}

var (
	secretA = []byte("a secret of more than 16 bytes")
	secretB = []byte("another one, just as long as it")
	keyA    = []byte{203, 0, 113, 7, 0x12, 0x67}
)

func forgedReady() []byte { return []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, readyState, 0} }

func forgedWelcome(version byte, named, known, hello []byte) []byte {
	w := append([]byte{version}, bytes.Repeat([]byte{3}, 48)...)
	w = append(w, 0)
	if named == nil {
		w = append(w, 0, 0)
	} else {
		w = append(append(w, 1), keyIDOf(named)...)
		w = append(append(w, 32), proofOf(known, "backend", hello, w)...)
	}
	return append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, welcome}, w...)
}
