package wsframe

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
)

// Keys makes masking keys of one connection. Whoever knows some of them, the server among them, can't foresee the next: ChaCha8 is a
// cipher's key stream, and its seed the system's (RFC 6455, sections 5.3 and 10.3). It belongs to one goroutine at a time.
type Keys struct{ stream *rand.ChaCha8 }

// NewKeys returns Keys that are like no others.
func NewKeys() Keys {
	var seed [32]byte
	_, _ = cryptorand.Read(seed[:]) // it never fails
	return Keys{rand.NewChaCha8(seed)}
}

// Next returns the next frame's key.
func (k Keys) Next() (key [4]byte) {
	binary.LittleEndian.PutUint32(key[:], uint32(k.stream.Uint64()))
	return key
}
