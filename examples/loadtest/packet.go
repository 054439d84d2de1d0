package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// A packet is, big-endian: check (4 bytes) · client (4) · number (8) · filler. Check and filler follow from the run, the
// client and the number, so that a packet of another run, or with one bit changed, is told from one that went astray.
const headerSize = 4 + 4 + 8

// fillers is how many different fillers there are.
const fillers = 4096

// packets makes the packets of one run, and checks them. It is static, and used by all clients at once.
type packets struct {
	size   int
	run    uint64
	filler []byte // each packet's is a part of it
}

func newPackets(size int) *packets {
	p := &packets{size: size, run: rand.Uint64(), filler: make([]byte, size-headerSize+fillers)}
	for i := range p.filler {
		p.filler[i] = byte(rand.Uint32())
	}
	return p
}

// append appends a client's packet to dst.
func (p *packets) append(dst []byte, client uint32, number uint64) []byte {
	check, filler := p.derive(client, number)
	dst = binary.BigEndian.AppendUint32(dst, check)
	dst = binary.BigEndian.AppendUint32(dst, client)
	dst = binary.BigEndian.AppendUint64(dst, number)
	return append(dst, filler...)
}

// read returns whose packet it is, and false if it is not as it was made.
func (p *packets) read(packet []byte) (client uint32, number uint64, ok bool) {
	if len(packet) != p.size {
		return 0, 0, false
	}
	client = binary.BigEndian.Uint32(packet[4:])
	number = binary.BigEndian.Uint64(packet[8:])
	check, filler := p.derive(client, number)
	ok = binary.BigEndian.Uint32(packet) == check && bytes.Equal(packet[headerSize:], filler)
	return client, number, ok
}

// derive mixes as splitmix64 does (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
func (p *packets) derive(client uint32, number uint64) (check uint32, filler []byte) {
	x := p.run ^ uint64(client)*0x9e3779b97f4a7c15 + number
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	offset := x % fillers
	return uint32(x >> 32), p.filler[offset : int(offset)+p.size-headerSize]
}
