package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"time"

	"github.com/minotaur-gateway/gateway/server"
)

// Defaults.
const (
	DefaultEndpointReconnectInterval  = time.Second
	DefaultEndpointConnectionPoolSize = 1
	DefaultShutdownTimeout            = 15 * time.Second
)

// Option configures a Gateway; see NewGateway.
type Option func(gateway *Gateway)

// WithEndpointSelector chooses endpoints by selector, nil: WeightedSelector, the default. The selector is called on the
// goroutines that call GetEndpoint, by several at once.
func WithEndpointSelector(selector EndpointSelector) Option {
	return func(g *Gateway) {
		if selector != nil {
			g.selector = selector
		}
	}
}

// WithLogger sends what the gateway logs to logger. nil: slog.Default(), the default. Server and clients have options of their own.
func WithLogger(logger *slog.Logger) Option {
	return func(g *Gateway) {
		if logger != nil {
			g.log = logger
		}
	}
}

// WithShutdownTimeout bounds how long Run takes to return after Shutdown, beside what the server's own shutdown timeout
// allows for clients. 0 or less is an error of Run. Default 15 s.
func WithShutdownTimeout(d time.Duration) Option {
	return func(g *Gateway) {
		if g.shutdownTimeout = d; d <= 0 {
			g.bad = fmt.Errorf("%w: shutdown timeout %v", ErrBadOption, d)
		}
	}
}

// WithName names the gateway in backends' logs, with 255 bytes at most; more is an error of Run.
func WithName(name string) Option {
	return func(g *Gateway) {
		if g.name = name; len(name) > maxNameSize {
			g.bad = fmt.Errorf("%w: gateway name of %d bytes: %d at most", ErrBadOption, len(name), maxNameSize)
		}
	}
}

// WithOpenAttributes gives backends what attributes returns about each client: a token, a language, parameters of the URL. It
// is called once for a client, before it is opened on the first backend, on the goroutine that forwards or moves. There they are
// what GetData has from the start, a string each. More than 4 KiB in all is left out, with an error in the log.
func WithOpenAttributes(attributes func(conn *server.Conn) map[string]string) Option {
	return func(g *Gateway) { g.attributes = attributes }
}

// EndpointOption configures an Endpoint; see NewEndpoint.
type EndpointOption func(endpoint *Endpoint)

// WithEndpointStateEvaluator makes the endpoint's state of its delay in nanoseconds by evaluator. nil: 1 / (1 + 1.5 *
// delay in seconds), the default. What is negative or no number counts as 0. It is called whenever a state is asked for,
// by several goroutines at once.
func WithEndpointStateEvaluator(evaluator func(costUnixNano float64) float64) EndpointOption {
	return func(e *Endpoint) {
		if evaluator != nil {
			e.evaluator = evaluator
		}
	}
}

// WithEndpointConnectionPoolSize sets how many links the endpoint gets. 0 or less: the default, 1.
func WithEndpointConnectionPoolSize(size int) EndpointOption {
	return func(e *Endpoint) {
		if e.poolSize = size; size <= 0 {
			e.poolSize = DefaultEndpointConnectionPoolSize
		}
	}
}

// WithEndpointReconnectInterval sets after how long, give or take a fifth, a link that was lost or didn't come up is
// tried again. 0 or less: never. Default 1 s.
func WithEndpointReconnectInterval(interval time.Duration) EndpointOption {
	return func(e *Endpoint) { e.reconnect = interval }
}

// WithReconnectBackoff lets the reconnect interval grow by 1.6 with each failure in a row, up to most. A link that comes
// up wakes the endpoint's others. 0 or less: it doesn't grow, the default.
func WithReconnectBackoff(most time.Duration) EndpointOption {
	return func(e *Endpoint) { e.backoff = max(most, 0) }
}

// WithEndpointWeight multiplies the endpoint's state where selectors weigh: 2 gets twice the players of 1, the default.
// 0 gets new players only where nobody weighs more. What is negative or no number counts as the default.
func WithEndpointWeight(weight float64) EndpointOption {
	return func(e *Endpoint) {
		if e.weight = weight; !(weight >= 0) || math.IsInf(weight, 0) {
			e.weight = 1
		}
	}
}

// WithEndpointMeta gives the endpoint facts for selectors and people: version, region. The map is copied.
func WithEndpointMeta(meta map[string]string) EndpointOption {
	return func(e *Endpoint) { e.meta = maps.Clone(meta) }
}

// WithPlainLinks doesn't ask whether the endpoint speaks the session protocol: it gets data packets only, as in v0.5.5. Without it
// a TCP endpoint that doesn't is found out within a second of its first link.
func WithPlainLinks() EndpointOption { return func(e *Endpoint) { e.plainOnly = true } }

// WithLinkSecret proves to the endpoint's backend that the gateway knows current, and demands the same proof of it; while
// secrets are being changed, previous ones will do too. Each has at least 16 bytes: an endpoint with a shorter one is refused
// by the gateway, with an error in the log. An endpoint that proves nothing is not linked to, whatever it speaks.
func WithLinkSecret(current []byte, previous ...[]byte) EndpointOption {
	return func(e *Endpoint) {
		var err error
		if e.secrets, err = newSecrets(current, previous); err != nil && e.bad == nil {
			e.bad = err
		}
	}
}
