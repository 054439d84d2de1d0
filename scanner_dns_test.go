package gateway_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
)

// registry is a DNS server in memory. A name that it has no records of does not exist.
type registry struct {
	t *testing.T

	mu      sync.Mutex // guards the rest
	records map[string][]dnsmessage.ResourceBody
	down    bool
}

// resolver asks the registry, over the framing that DNS has on TCP.
func (r *registry) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go r.serve(far)
		return near, nil
	}}
}

func (r *registry) set(name string, records ...dnsmessage.ResourceBody) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records[name] = records
}

func (r *registry) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := r.answer(query)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func (r *registry) answer(query []byte) []byte {
	var msg dnsmessage.Message
	assert.NoError(r.t, msg.Unpack(query))
	question := msg.Questions[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: msg.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
		Questions: msg.Questions,
	}
	records, known := r.records[question.Name.String()]
	switch {
	case r.down:
		reply.RCode = dnsmessage.RCodeServerFailure
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, body := range records {
		if kind := kindOf(body); kind == question.Type && !r.down {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   body,
			})
		}
	}
	packed, err := reply.Pack()
	assert.NoError(r.t, err)
	return packed
}

func kindOf(body dnsmessage.ResourceBody) dnsmessage.Type {
	switch body.(type) {
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeSRV
}

func v4(a, b, c, d byte) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: [4]byte{a, b, c, d}}
}

func srv(target string, port, priority, weight uint16) dnsmessage.ResourceBody {
	return &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(target), Port: port, Priority: priority, Weight: weight}
}

func newRegistry(t *testing.T) *registry {
	return &registry{t: t, records: map[string][]dnsmessage.ResourceBody{}}
}

func connectTCP(addr string) *client.Client { return client.NewTCP(addr) }

// weights returns the endpoints' weights by address.
func weights(endpoints []*gateway.Endpoint) map[string]float64 {
	all := map[string]float64{}
	for _, e := range endpoints {
		all[e.GetAddress()] = e.Weight()
	}
	return all
}

func TestDNSScannerAddresses(t *testing.T) {
	r := newRegistry(t)
	s := gateway.NewDNSScanner("game", "game.test:9001", connectTCP, gateway.WithDNSResolver(r.resolver()),
		gateway.WithDNSEndpointOptions(gateway.WithEndpointWeight(3)))
	r.set("game.test.", v4(10, 0, 0, 2), v4(10, 0, 0, 1), v4(10, 0, 0, 2),
		&dnsmessage.AAAAResource{AAAA: [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1}})
	endpoints, err := s.GetEndpoints()
	require.NoError(t, err)
	assert.Equal(t, map[string]float64{"10.0.0.1:9001": 3, "10.0.0.2:9001": 3, "[2001:db8::1]:9001": 3}, weights(endpoints))
	assert.Len(t, endpoints, 3, "no twins")
	for _, e := range endpoints {
		assert.Equal(t, "game", e.GetName())
	}

	r.set("game.test.", v4(10, 0, 0, 9)) // asked anew each time
	endpoints, err = s.GetEndpoints()
	require.NoError(t, err)
	assert.Equal(t, map[string]float64{"10.0.0.9:9001": 3}, weights(endpoints))
}

func TestDNSScannerServices(t *testing.T) {
	for _, test := range []struct {
		name    string
		records []dnsmessage.ResourceBody
		want    map[string]float64
	}{
		{"weights", []dnsmessage.ResourceBody{srv("a.test.", 9001, 1, 10), srv("b.test.", 9002, 1, 30)},
			map[string]float64{"a.test:9001": 10, "b.test:9002": 30}},
		{"the lowest priority only", []dnsmessage.ResourceBody{srv("spare.test.", 9003, 2, 50), srv("a.test.", 9001, 1, 10)},
			map[string]float64{"a.test:9001": 10}},
		{"all weights 0", []dnsmessage.ResourceBody{srv("a.test.", 9001, 1, 0), srv("b.test.", 9001, 1, 0)},
			map[string]float64{"a.test:9001": 1, "b.test:9001": 1}},
		{"one weight 0", []dnsmessage.ResourceBody{srv("a.test.", 9001, 1, 0), srv("b.test.", 9001, 1, 5)},
			map[string]float64{"a.test:9001": 0, "b.test:9001": 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRegistry(t)
			r.set("_game._tcp.test.", test.records...)
			s := gateway.NewDNSScanner("game", "_game._tcp.test", connectTCP, gateway.WithDNSResolver(r.resolver()))
			endpoints, err := s.GetEndpoints()
			require.NoError(t, err)
			assert.Equal(t, test.want, weights(endpoints))
		})
	}
}

// What can't be answered is a failed scan, which names the target and changes nothing.
func TestDNSScannerFails(t *testing.T) {
	r := newRegistry(t)
	r.set("empty.test.")
	r.set("_empty._tcp.test.")
	for name, target := range map[string]string{
		"no port":          "game.test",
		"port 0":           "game.test:0",
		"no number":        "game.test:http",
		"unknown name":     "nowhere.test:9001",
		"unknown service":  "_nowhere._tcp.test",
		"no addresses":     "empty.test:9001",
		"no SRV records":   "_empty._tcp.test",
		"nothing whatever": "",
	} {
		t.Run(name, func(t *testing.T) {
			endpoints, err := gateway.NewDNSScanner("game", target, connectTCP, gateway.WithDNSResolver(r.resolver())).GetEndpoints()
			assert.ErrorContains(t, err, `"`+target+`"`)
			assert.Empty(t, endpoints)
		})
	}
	_, err := gateway.NewDNSScanner("game", "game.test:9001", nil).GetEndpoints()
	assert.ErrorIs(t, err, gateway.ErrBadOption)
}

func TestDNSScannerRegistryDown(t *testing.T) {
	r := newRegistry(t)
	r.set("game.test.", v4(10, 0, 0, 1))
	s := gateway.NewDNSScanner("game", "game.test:9001", connectTCP, gateway.WithDNSResolver(r.resolver()))
	_, err := s.GetEndpoints()
	require.NoError(t, err)
	r.mu.Lock()
	r.down = true
	r.mu.Unlock()
	_, err = s.GetEndpoints()
	var dns *net.DNSError
	assert.ErrorAs(t, err, &dns)
}

func TestDNSScannerInterval(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 0: 10 * time.Second, -1: 10 * time.Second} {
		s := gateway.NewDNSScanner("game", "game.test:1", connectTCP, gateway.WithDNSInterval(set), nil, gateway.WithDNSResolver(nil))
		assert.Equal(t, want, s.GetInterval())
	}
	assert.Equal(t, 10*time.Second, gateway.NewDNSScanner("game", "game.test:1", connectTCP).GetInterval())
}
