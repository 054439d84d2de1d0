package frame_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/minotaur-gateway/gateway/internal/frame"
)

// sinkConn takes everything.
type sinkConn struct{ net.Conn }

func (*sinkConn) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkFramer(b *testing.B) {
	packet := bytes.Repeat([]byte("x"), 128)
	for _, f := range framers {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(packet)))
			var buf []byte
			for b.Loop() {
				buf, _ = f.Append(buf[:0], packet)
				if _, size, err := f.Next(buf, 128); size == 0 || err != nil {
					b.Fatal(size, err)
				}
			}
		})
	}
}

// repeatConn gives the same bytes again and again.
type repeatConn struct {
	net.Conn
	bytes []byte
}

func (c *repeatConn) Read(p []byte) (int, error) { return copy(p, c.bytes), nil }

func BenchmarkReader(b *testing.B) {
	conn := &repeatConn{bytes: framed(b, frame.Default(), string(make([]byte, 128)))}
	r := frame.NewReader(conn, frame.Default(), 1<<10, 0, 0)
	b.ReportAllocs()
	b.SetBytes(128)
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteStream(b *testing.B) {
	payloads := make([]string, 64)
	for i := range payloads {
		payloads[i] = string(make([]byte, 128))
	}
	list, conn := packets(payloads...), &sinkConn{}
	b.ReportAllocs()
	b.SetBytes(64 * 128)
	for b.Loop() {
		if _, err := frame.WriteStream(conn, frame.Default(), list, 0); err != nil {
			b.Fatal(err)
		}
	}
}
