package gateway_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/minotaur-gateway/gateway"

// list runs go list and returns its lines.
func list(t *testing.T, args ...string) []string {
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// Imports point down only: root -> server, client -> internal.
func TestLayers(t *testing.T) {
	for pkg, forbidden := range map[string][]string{
		"/server":         {"", "/client", "/internal/gwtest", "/internal/table", "/gatewaytest"},
		"/client":         {"", "/server", "/internal/gwtest", "/internal/table", "/gatewaytest"},
		"/internal/outq":  {"", "/server", "/client"},
		"/internal/wsio":  {"", "/server", "/client"},
		"/internal/hook":  {"", "/server", "/client"},
		"/internal/table": {"", "/server", "/client"},
		"/gatewaytest":    {"/internal/gwtest"},
		"":                {"/internal/gwtest", "/gatewaytest"},
	} {
		deps := list(t, "-deps", module+pkg)
		require.Contains(t, deps, module+pkg)
		for _, bad := range forbidden {
			assert.NotContains(t, deps, module+bad, "%s must not import it", module+pkg)
		}
	}
	foreign := list(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+"/internal/frame")
	assert.Equal(t, []string{module + "/internal/frame"}, foreign, "internal/frame imports the standard library only")
	for _, user := range list(t, "-f", `{{range .Imports}}{{if eq . "github.com/alphadose/haxmap"}}{{$.ImportPath}}{{end}}{{end}}`, "./...") {
		assert.Equal(t, module+"/internal/table", user, "the only user of haxmap")
	}
}

// The core compiles in few third-party modules.
func TestDependencies(t *testing.T) {
	modules := modulesOf(t, module)
	assert.LessOrEqual(t, len(modules), 14)
	assert.Subset(t, modules, []string{"github.com/alphadose/haxmap", "github.com/gorilla/websocket"})
	assert.Equal(t, modules, modulesOf(t, module+"/gatewaytest"), "what users test with needs nothing more")
}

// modulesOf returns the third-party modules that a package compiles in.
func modulesOf(t *testing.T, pkg string) []string {
	modules := list(t, "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", pkg)
	slices.Sort(modules)
	return slices.Compact(modules)
}
