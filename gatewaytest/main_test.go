package gatewaytest_test

import (
	"testing"

	"github.com/minotaur-gateway/gateway/internal/gwtest"
)

func TestMain(m *testing.M) { gwtest.Main(m) }
