package server_test

import (
	"testing"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/internal/loop"
	"github.com/minotaur-gateway/gateway/server"
)

func TestRFC6455(t *testing.T) {
	for name, engine := range map[string]server.Engine{"goroutines": server.EngineGoroutines, "loops": server.EngineLoops} {
		if engine == server.EngineLoops && !loop.Supported {
			continue
		}
		t.Run(name, func(t *testing.T) { conformance.RFC6455(t, server.WithEngine(engine)) })
	}
}
