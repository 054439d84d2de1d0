package kcp

import (
	"encoding/binary"
	"hash/crc32"

	kcpgo "github.com/xtaci/kcp-go/v5"
)

// What surrounds a segment in a datagram of kcp-go, outermost first: with encryption a nonce and a CRC-32, with error correction a sequence
// number, a flag and a size. Those are little-endian, as is KCP itself.
const (
	nonceSize  = 16
	crcSize    = 4
	fecSize    = 8
	fecFlagAt  = 4
	fecData    = 0x00f1
	fecParity  = 0x00f2
	segmentMin = kcpgo.IKCP_OVERHEAD
	maxSize    = 1500 // bytes that kcp-go reads of a datagram

	cmdAt, frgAt, snAt, lengthAt = 4, 5, kcpgo.IKCP_SN_OFFSET, 20
)

// shape is what a datagram turns out to be.
type shape int

const (
	noSegment    shape = iota // none of KCP's
	parity                    // error correction, of no known session
	someSegment               // of the session conv
	helloSegment              // the first one of the session conv, which begins with a whole HELLO
)

// inspect tells what a datagram is, after b was decrypted in scratch, which has room for it, where block isn't nil.
func inspect(b []byte, block BlockCrypt, scratch []byte) (shape, uint32) {
	if block != nil {
		if b = decrypt(b, block, scratch); b == nil {
			return noSegment, 0
		}
	}
	if len(b) < segmentMin {
		return noSegment, 0
	}
	switch binary.LittleEndian.Uint16(b[fecFlagAt:]) {
	case fecParity:
		return parity, 0
	case fecData:
		b = b[fecSize:]
	}
	if len(b) < segmentMin || b[cmdAt] < kcpgo.IKCP_CMD_PUSH || b[cmdAt] > kcpgo.IKCP_CMD_WINS {
		return noSegment, 0
	}
	conv := binary.LittleEndian.Uint32(b)
	if opens(b) {
		return helloSegment, conv
	}
	return someSegment, conv
}

// opens reports whether a segment is a session's first and begins with a whole HELLO.
func opens(b []byte) bool {
	if b[cmdAt] != kcpgo.IKCP_CMD_PUSH || b[frgAt] != 0 || binary.LittleEndian.Uint32(b[snAt:]) != 0 {
		return false
	}
	data, length := b[segmentMin:], binary.LittleEndian.Uint32(b[lengthAt:])
	if uint64(length) > uint64(len(data)) || length < headSize || data[0] != typeHello {
		return false
	}
	data = data[:length]
	size := binary.BigEndian.Uint32(data[1:])
	if size > maxControl || int(size) > len(data)-headSize {
		return false
	}
	_, err := parseHello(data[headSize : headSize+int(size)])
	return err == nil
}

// decrypt returns what is encrypted in b, nil if that is nothing.
func decrypt(b []byte, block BlockCrypt, scratch []byte) []byte {
	if len(b) < nonceSize+crcSize {
		return nil
	}
	plain := scratch[:copy(scratch, b)]
	block.Decrypt(plain, plain)
	plain = plain[nonceSize:]
	if binary.LittleEndian.Uint32(plain) != crc32.ChecksumIEEE(plain[crcSize:]) {
		return nil
	}
	return plain[crcSize:]
}
