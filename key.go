package gateway

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/minotaur-gateway/gateway/internal/table"
)

// keyQuarantine is how long the key of a client that has left is given to nobody: a late reply must not reach the next
// player behind the same address.
const keyQuarantine = time.Minute

// numberSpace is how many keys 0.0.0.0/8 has: numbers for clients without an IPv4 address of their own.
const numberSpace = 1 << 40

// keyring gives each session its key, and finds sessions by key.
type keyring struct {
	sessions *table.Table[*session]

	mu     sync.Mutex // guards the rest
	number uint64     // the last one given out of 0.0.0.0/8
	resting
}

// resting are the keys in quarantine, and the order in which they leave it.
type resting struct {
	until map[uint64]time.Time
	order []uint64
}

func newKeyring() *keyring {
	return &keyring{
		sessions: table.New[*session](), number: rand.Uint64N(numberSpace),
		resting: resting{until: map[uint64]time.Time{}},
	}
}

// add gives s a key: its IPv4 address and port where it has one that is free, and else a number out of 0.0.0.0/8, which
// is nobody's address.
func (k *keyring) add(s *session, addr net.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.releaseLocked(time.Now())
	if key, ok := addressKey(addr); ok && k.takeLocked(s, key) {
		return
	}
	for {
		k.number = (k.number + 1) % numberSpace
		if k.number != controlKey && k.takeLocked(s, k.number) {
			return
		}
	}
}

func (k *keyring) takeLocked(s *session, key uint64) bool {
	if _, rests := k.until[key]; rests {
		return false
	}
	s.key = key
	return k.sessions.Add(key, s)
}

// remove puts the key of a session that has ended into quarantine.
func (k *keyring) remove(s *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.releaseLocked(now)
	if k.sessions.Delete(s.key) {
		k.until[s.key] = now.Add(keyQuarantine)
		k.order = append(k.order, s.key)
	}
}

// releaseLocked lets go of the keys that have rested long enough.
func (k *keyring) releaseLocked(now time.Time) {
	n := 0
	for n < len(k.order) && !now.Before(k.until[k.order[n]]) {
		delete(k.until, k.order[n])
		n++
	}
	if k.order = k.order[n:]; len(k.order) == 0 {
		k.order = nil // lets the array go
	}
}

// addressKey returns the key that is a client's address, where it has an IPv4 address that can be real.
func addressKey(addr net.Addr) (uint64, bool) {
	tcp, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return 0, false
	}
	ap := tcp.AddrPort()
	ip := ap.Addr().Unmap()
	if !ip.Is4() || ip.As4()[0] == 0 {
		return 0, false
	}
	return makeKey(ip.As4(), ap.Port()), true
}
