package gateway_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
)

var benchSizes = []int{32, 1 << 10, 64 << 10}

// sizes runs f for packets of each size.
func sizes(b *testing.B, f func(b *testing.B, size int)) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%d B", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			f(b, size)
		})
	}
}

const benchAddress = "192.168.1.2:8080"

func BenchmarkMarshalGatewayOutPacket(b *testing.B) {
	sizes(b, func(b *testing.B, size int) {
		packet := make([]byte, size)
		for b.Loop() {
			if _, err := gateway.MarshalGatewayOutPacket(benchAddress, packet); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMarshalGatewayInPacket(b *testing.B) {
	sizes(b, func(b *testing.B, size int) {
		packet := make([]byte, size)
		for b.Loop() {
			if _, err := gateway.MarshalGatewayInPacket(benchAddress, 1, packet); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Packets are not copied: their size is nothing to Unmarshal.
func BenchmarkUnmarshalGatewayOutPacket(b *testing.B) {
	data, err := gateway.MarshalGatewayOutPacket(benchAddress, make([]byte, 32))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := gateway.UnmarshalGatewayOutPacket(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalGatewayInPacket(b *testing.B) {
	data, err := gateway.MarshalGatewayInPacket(benchAddress, 1, make([]byte, 32))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := gateway.UnmarshalGatewayInPacket(data); err != nil {
			b.Fatal(err)
		}
	}
}
