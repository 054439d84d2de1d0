package client_test

import (
	"testing"

	"github.com/minotaur-gateway/gateway/client"
	"github.com/minotaur-gateway/gateway/internal/conformance"
)

func TestRFC6455(t *testing.T) { conformance.RFC6455Client(t, client.NewWebsocket) }
