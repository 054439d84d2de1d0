package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The handshake of a link: HELLO, WELCOME, AUTH where there is a secret, READY. This file is what both sides share.
const (
	helloPatience = time.Second     // for a WELCOME on a stream, before the endpoint is taken for a plain one
	handshakeTime = 2 * time.Second // for the whole handshake, whatever traffic there is
	minSecretSize = 16

	exporterLabel = "EXPORTER-gateway.v1" // RFC 5705
	exporterSize  = 32
)

var (
	// ErrHandshake is what every error of a link's handshake unwraps to.
	ErrHandshake = errors.New("gateway: link handshake failed")
	// ErrUntrusted means that a gateway linked to a backend that doesn't trust it, or that a secret is wrong.
	ErrUntrusted = fmt.Errorf("%w: not trusted", ErrHandshake)

	errNoVersion  = fmt.Errorf("%w: no common version", ErrHandshake)
	errNoProof    = fmt.Errorf("%w: no proof of a secret that both sides have", ErrUntrusted)
	errWrongProof = fmt.Errorf("%w: wrong proof", ErrUntrusted)
	errTooSlow    = fmt.Errorf("%w: not done within %v", ErrHandshake, handshakeTime)
	errOutOfTurn  = fmt.Errorf("%w: packet out of turn", ErrHandshake)
)

// secrets are the shared secrets of links, the current one first.
type secrets [][]byte

// newSecrets checks and copies secrets.
func newSecrets(current []byte, previous [][]byte) (secrets, error) {
	all := append(secrets{current}, previous...)
	for i, secret := range all {
		if len(secret) < minSecretSize {
			return nil, fmt.Errorf("%w: secret %d of %d bytes: at least %d", ErrBadOption, i, len(secret), minSecretSize)
		}
		all[i] = slices.Clone(secret)
	}
	return all, nil
}

// idOf names a secret without telling it.
func idOf(secret []byte) (id keyID) {
	h := sha256.New()
	h.Write([]byte("gateway.v1 key id"))
	h.Write(secret)
	copy(id[:], h.Sum(nil))
	return id
}

func (s secrets) ids() []keyID {
	ids := make([]keyID, len(s))
	for i, secret := range s {
		ids[i] = idOf(secret)
	}
	return ids
}

// named returns the secret that goes by id, nil if none does.
func (s secrets) named(id keyID) []byte {
	for _, secret := range s {
		if idOf(secret) == id {
			return secret
		}
	}
	return nil
}

// common returns the newest of s that the other side has too, nil if there is none.
func (s secrets) common(ids []keyID) []byte {
	for _, secret := range s {
		if slices.Contains(ids, idOf(secret)) {
			return secret
		}
	}
	return nil
}

// Roles, so that nobody's proof serves as the other's.
const (
	roleGateway = "gateway"
	roleBackend = "backend"
)

// prove returns HMAC-SHA256(secret, role and every field of HELLO and WELCOME but the proof, and the TLS exporter where
// there is TLS), each with its length before it.
func prove(secret []byte, role string, h *helloBody, w *welcomeBody, exporter []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	field := func(b []byte) {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		mac.Write(b)
	}
	field([]byte(role))
	field([]byte{h.lowest, h.highest})
	field(h.instance[:])
	field(h.nonce[:])
	field([]byte(h.name))
	for _, id := range h.keys {
		field(id[:])
	}
	field([]byte{w.version})
	field(w.instance[:])
	field(w.nonce[:])
	field([]byte(w.name))
	field(w.key[:])
	field(exporter)
	return mac.Sum(nil)
}

func proves(proof, secret []byte, role string, h *helloBody, w *welcomeBody, exporter []byte) bool {
	return hmac.Equal(proof, prove(secret, role, h, w, exporter))
}

func newNonce() (n nonce) {
	rand.Read(n[:]) // never fails: crypto/rand ends the process instead
	return n
}

func newInstance() (id instanceID) {
	rand.Read(id[:])
	return id
}
