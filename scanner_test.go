package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/server"
)

// listing is a scan whose outcome a test changes.
type listing struct {
	mu  sync.Mutex
	now func(w *world) found
}

func (l *listing) scan(w *world) found {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now(w)
}

func (l *listing) set(now func(w *world) found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = now
}

// of lists endpoints by address, made anew on each scan.
func of(addresses ...string) func(w *world) found {
	return func(w *world) found {
		var f found
		for _, addr := range addresses {
			f.endpoints = append(f.endpoints, w.endpoint(addr))
		}
		return f
	}
}

func failing(*world) found { return found{err: errRegistry} }

func TestScannerIsAskedEveryInterval(t *testing.T) {
	inWorld(t, 5*time.Second, of(), func(w *world) {
		assert.EqualValues(t, 1, w.scans.Load(), "at once")
		time.Sleep(24 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 5, w.scans.Load())
	})
	inWorld(t, 0, of(), func(w *world) {
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		assert.EqualValues(t, 3, w.scans.Load(), "without an interval: every second")
	})
}

// The original spun without sleeping after a scan error.
func TestScanErrorBacksOff(t *testing.T) {
	for name, scan := range map[string]func(*world) found{
		"error":    failing,
		"panic":    func(*world) found { panic("registry") },
		"nil only": func(*world) found { return found{endpoints: []*gateway.Endpoint{nil, nil}} },
	} {
		t.Run(name, func(t *testing.T) {
			l := &listing{now: of("a")}
			inWorld(t, time.Second, l.scan, func(w *world) {
				stop := w.backend("a", nil)
				defer stop()
				time.Sleep(3 * time.Second)
				synctest.Wait()
				before := w.scans.Load()
				l.set(scan)
				time.Sleep(time.Minute)
				synctest.Wait()
				// After 1 s, then 2, 4, 8, 16 and 30 s, each give or take a fifth.
				assert.InDelta(t, 5.5, w.scans.Load()-before, 1)
				assert.EqualValues(t, w.scans.Load()-before, w.Stats().ScansFailed)
				assert.EqualValues(t, before, w.Stats().Scans)
				assert.Equal(t, []string{"a"}, w.known(), "a failed scan changes nothing")
				_, err := w.GetEndpoint("game")
				assert.NoError(t, err)
				l.set(of("a"))
				time.Sleep(40 * time.Second)
				synctest.Wait()
				again := w.scans.Load()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				assert.InDelta(t, 10, w.scans.Load()-again, 1, "a success ends it")
			})
		})
	}
}

func TestNilEntriesAreSkipped(t *testing.T) {
	inWorld(t, time.Second, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{nil, w.endpoint("a"), nil}}
	}, func(w *world) { assert.Equal(t, []string{"a"}, w.known()) })
}

func TestTwinsAreIgnored(t *testing.T) {
	var first *gateway.Endpoint
	inWorld(t, time.Second, func(w *world) found {
		twin := w.endpoint("a", gateway.WithEndpointConnectionPoolSize(4))
		if first == nil {
			first = w.endpoint("a")
			return found{endpoints: []*gateway.Endpoint{first, twin}}
		}
		return found{endpoints: []*gateway.Endpoint{twin}}
	}, func(w *world) {
		stop := w.backend("a", nil)
		defer stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		e, err := w.GetEndpoint("game")
		require.NoError(t, err)
		assert.True(t, first == e)
		assert.Equal(t, 1, e.Links())
	})
}

// Vanished endpoints stayed for ever.
func TestVanishedEndpointIsDropped(t *testing.T) {
	l := &listing{now: of("a", "b")}
	inWorld(t, time.Second, l.scan, func(w *world) {
		defer w.backend("a", nil)()
		defer w.backend("b", nil)()
		time.Sleep(1500 * time.Millisecond)
		l.set(of("a")) // nobody is on b
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"a"}, w.known())
		e, err := w.GetEndpoint("game")
		require.NoError(t, err)
		assert.Equal(t, "a", e.GetAddress())
	})
}

// A retired endpoint keeps those who are on it, and gets nobody else.
func TestRetiredEndpointKeepsItsSessions(t *testing.T) {
	l := &listing{now: of("a")}
	inWorld(t, time.Second, l.scan, func(w *world) {
		defer w.backend("a", nil)()
		defer w.backend("b", nil)()
		time.Sleep(1500 * time.Millisecond)
		old, got := w.join()
		old.Write([]byte("one"))
		assert.Equal(t, "one", string(<-got))

		l.set(of("b"))
		time.Sleep(3 * time.Second)
		assert.Equal(t, []string{"a", "b"}, w.known())
		old.Write([]byte("two"))
		assert.Equal(t, "two", string(<-got))
		for e := range w.Endpoints() {
			assert.Equal(t, e.GetAddress() == "a", e.Retired())
			assert.Equal(t, map[string]int{"a": 1, "b": 0}[e.GetAddress()], e.Sessions())
		}
		for range 20 {
			e, err := w.GetEndpoint("game")
			require.NoError(t, err)
			assert.Equal(t, "b", e.GetAddress())
		}
		old.Close()
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"b"}, w.known(), "dropped when the last one has left")
	})
}

func TestEndpointListedAgainIsRevived(t *testing.T) {
	l := &listing{now: of("a", "b")}
	inWorld(t, time.Second, l.scan, func(w *world) {
		defer w.backend("a", nil)()
		time.Sleep(1500 * time.Millisecond)
		cli, got := w.join()
		defer cli.Close()
		cli.Write([]byte("one"))
		<-got
		before, err := w.GetEndpoint("game")
		require.NoError(t, err)
		l.set(of("b"))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.True(t, before.Retired())
		l.set(of("a"))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.False(t, before.Retired())
		after, err := w.GetEndpoint("game")
		require.NoError(t, err)
		assert.True(t, before == after)
		assert.EqualValues(t, 1, w.Stats().LinksOpened, "its link was never touched")
	})
}

// A name that suddenly has none must be seen so three times running.
func TestThreeEmptyScansAreBelieved(t *testing.T) {
	l := &listing{now: of("a")}
	inWorld(t, time.Second, l.scan, func(w *world) {
		defer w.backend("a", nil)()
		time.Sleep(1500 * time.Millisecond)
		for range 5 { // a registry that flaps: two empty lists, then the truth
			l.set(of())
			time.Sleep(2 * time.Second)
			assert.Equal(t, []string{"a"}, w.known())
			l.set(of("a"))
			time.Sleep(time.Second)
			assert.Equal(t, []string{"a"}, w.known())
		}
		assert.EqualValues(t, 1, w.Stats().LinksOpened)
		l.set(of())
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"a"}, w.known())
		time.Sleep(2 * time.Second)
		assert.Empty(t, w.known())
		l.set(of("a")) // and may come back
		time.Sleep(2 * time.Second)
		_, err := w.GetEndpoint("game")
		assert.NoError(t, err)
	})
}

// The same endpoint value can be listed again after it was dropped.
func TestDroppedEndpointCanBeListedAgain(t *testing.T) {
	var e *gateway.Endpoint
	same := func(w *world) found {
		if e == nil {
			e = w.endpoint("a")
		}
		return found{endpoints: []*gateway.Endpoint{e}}
	}
	l := &listing{now: same}
	inWorld(t, time.Second, l.scan, func(w *world) {
		defer w.backend("a", nil)()
		for range 3 {
			l.set(same)
			time.Sleep(2500 * time.Millisecond)
			synctest.Wait()
			assert.Positive(t, e.GetState())
			l.set(of())
			time.Sleep(5 * time.Second)
			assert.Empty(t, w.known())
			assert.Zero(t, e.GetState())
		}
	})
}

func TestEndpointsThatCannotBeAdopted(t *testing.T) {
	raw := gateway.NewEndpoint("game", client.NewTCP("127.0.0.1:1", client.WithFramer(client.RawFramer())))
	inWorld(t, time.Second, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{gateway.NewEndpoint("game", nil), raw, w.endpoint("a")}}
	}, func(w *world) {
		assert.Equal(t, []string{"a"}, w.known())
		assert.Zero(t, raw.GetState())
	})
}

// A reconnect comes after about the interval, each time.
func TestReconnectInterval(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 10 * time.Second} {
		t.Run(interval.String(), func(t *testing.T) {
			inWorld(t, time.Hour, func(w *world) found {
				return found{endpoints: []*gateway.Endpoint{w.endpoint("a", gateway.WithEndpointReconnectInterval(interval))}}
			}, func(w *world) {
				for tries := 1; tries <= 5; tries++ { // nobody listens
					assert.Equal(t, tries, w.net.Dials("a"))
					time.Sleep(interval * 79 / 100)
					synctest.Wait()
					assert.Equal(t, tries, w.net.Dials("a"), "not before 0.8 of the interval")
					for w.net.Dials("a") == tries {
						time.Sleep(interval / 100)
						synctest.Wait()
					}
				}
				stop := w.backend("a", nil)
				defer stop()
				time.Sleep(interval * 121 / 100)
				synctest.Wait()
				_, err := w.GetEndpoint("game")
				assert.NoError(t, err, "after 1.2 of the interval at the latest")
				dials := w.net.Dials("a")
				w.net.Cut("a")
				time.Sleep(interval * 121 / 100)
				synctest.Wait()
				assert.Equal(t, dials+1, w.net.Dials("a"), "a lost link too")
				_, err = w.GetEndpoint("game")
				assert.NoError(t, err)
			})
		})
	}
}

func TestReconnectNever(t *testing.T) {
	for _, interval := range []time.Duration{0, -time.Second} {
		inWorld(t, time.Hour, func(w *world) found {
			return found{endpoints: []*gateway.Endpoint{w.endpoint("a", gateway.WithEndpointReconnectInterval(interval))}}
		}, func(w *world) {
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			assert.Equal(t, 1, w.net.Dials("a"), fmt.Sprint(interval))
		})
	}
}

// With a backoff the interval grows by 1.6 to the most given, and one link that comes up wakes the others.
func TestReconnectBackoff(t *testing.T) {
	inWorld(t, time.Hour, func(w *world) found {
		return found{endpoints: []*gateway.Endpoint{w.endpoint("a",
			gateway.WithReconnectBackoff(time.Minute), gateway.WithEndpointConnectionPoolSize(3))}}
	}, func(w *world) {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// 1, 1.6, 2.56, ... reach a minute after 9 tries and some 155 s; then one a minute.
		perLink := float64(w.net.Dials("a")) / 3
		assert.InDelta(t, 9+(600-155)/60.0, perLink, 4)
		stop := w.backend("a", nil)
		defer stop()
		begun := time.Now()
		for w.Stats().LinksOpened == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		assert.LessOrEqual(t, time.Since(begun), 73*time.Second)
		synctest.Wait()
		assert.EqualValues(t, 3, w.Stats().LinksOpened, "one success wakes the others")
	})
}

// An endpoint that accepts links and hangs up is not stormed, however many links there are: they don't wake each other,
// and count as failures.
func TestReconnectToOneThatHangsUp(t *testing.T) {
	for _, pool := range []int{1, 4, 8} {
		inWorld(t, time.Hour, func(w *world) found {
			return found{endpoints: []*gateway.Endpoint{w.endpoint("a", gateway.WithEndpointConnectionPoolSize(pool),
				gateway.WithReconnectBackoff(time.Minute))}}
		}, func(w *world) {
			srv := w.net.Server()
			srv.RegConnectionOpenedEvent(func(_ *server.Server, conn *server.Conn) {
				time.Sleep(time.Duration(1+rand.IntN(20)) * time.Millisecond)
				conn.Close()
			})
			ended := make(chan error, 1)
			go func() { ended <- srv.Run("a") }()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			perLink := float64(w.net.Dials("a")) / float64(pool)
			assert.InDelta(t, 9+(600-155)/60.0, perLink, 4, "pool of %d", pool) // as in TestReconnectBackoff
			srv.Shutdown()
			assert.NoError(t, <-ended)
		})
	}
}
