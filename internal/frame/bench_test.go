package frame_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// sinkConn takes everything.
type sinkConn struct{ net.Conn }

func (*sinkConn) Write(p []byte) (int, error) { return len(p), nil }

var benchSizes = []int{32, 1 << 10, 64 << 10}

func BenchmarkFramer(b *testing.B) {
	for _, f := range framers {
		for _, size := range benchSizes {
			packet := bytes.Repeat([]byte("x"), size)
			if _, err := f.Append(nil, packet); err != nil {
				continue // it has a smaller limit
			}
			b.Run(fmt.Sprintf("%s/%d B", f.name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				var buf []byte
				for b.Loop() {
					buf, _ = f.Append(buf[:0], packet)
					if _, got, err := f.Next(buf, size); got == 0 || err != nil {
						b.Fatal(got, err)
					}
				}
			})
		}
	}
}

// repeatConn gives the same bytes again and again.
type repeatConn struct {
	net.Conn
	bytes []byte
}

func (c *repeatConn) Read(p []byte) (int, error) { return copy(p, c.bytes), nil }

func BenchmarkReader(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			conn := &repeatConn{bytes: framed(b, frame.Default(), string(make([]byte, size)))}
			r := frame.NewReader(conn, frame.Default(), size, 0, size+4) // each read is one packet
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriteStream(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("64 packets of %d B", size), func(b *testing.B) {
			payloads := make([]string, 64)
			for i := range payloads {
				payloads[i] = string(make([]byte, size))
			}
			list, conn, framer := packets(payloads...), &sinkConn{}, frame.Default()
			b.ReportAllocs()
			b.SetBytes(int64(64 * size))
			for b.Loop() {
				if _, err := frame.WriteStream(conn, framer, list, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBorrowPacket(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			payload := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				frame.BorrowPacket(frame.KindBinary, payload).Recycle()
			}
		})
	}
}
