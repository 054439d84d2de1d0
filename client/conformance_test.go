package client_test

import (
	"testing"

	"github.com/minotaur-gateway/gateway/internal/conformance"
)

func TestConformance(t *testing.T) { conformance.Client(t) }
