package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway/internal/conformance"
	"github.com/minotaur-gateway/gateway/server"
)

// unwrapper is what middleware of today puts around a ResponseWriter: it can do nothing but be unwrapped.
type unwrapper struct{ inner http.ResponseWriter }

func (u unwrapper) Header() http.Header         { return u.inner.Header() }
func (u unwrapper) Write(p []byte) (int, error) { return u.inner.Write(p) }
func (u unwrapper) WriteHeader(code int)        { u.inner.WriteHeader(code) }
func (u unwrapper) Unwrap() http.ResponseWriter { return u.inner }

// mount puts the server at /play of a program that has a web server already.
func mount(h *host, wrap bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("the site")) })
	mux.Handle("/play/", h.Server)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wrap {
			w = unwrapper{unwrapper{w}}
		}
		mux.ServeHTTP(w, r)
	})
}

func TestServeHTTP(t *testing.T) {
	for name, engine := range engines() {
		for _, wrap := range []string{"bare", "behind middleware"} {
			t.Run(name+"/"+wrap, func(t *testing.T) {
				h := newHost(ws, engine).echo()
				h.begin(t, t.Context())
				site := httptest.NewServer(mount(h, wrap != "bare"))
				defer site.Close()
				h.addr = strings.TrimPrefix(site.URL, "http://")
				p := conformance.Dial(t, ws, h.addr, "/play/room?name=ann")
				conn := await(t, h.opened, "opened event")
				h.talk(t, p)
				assert.Equal(t, "ann", conn.GetData("name"))
				assert.Equal(t, "/play/room", conn.GetWebsocketRequest().URL.Path)
				if name == "loops" {
					assert.NotNil(t, conn.Loop())
				}
				resp, err := http.Get(site.URL + "/elsewhere")
				require.NoError(t, err)
				resp.Body.Close()
				assert.Equal(t, http.StatusOK, resp.StatusCode)

				h.Shutdown()
				p.ExpectFarewell(1001)
				p.Farewell()
				assert.NoError(t, h.Wait())
			})
		}
	}
}

// A web server that speaks HTTP/2 upgrades those who come over HTTP/1.1, as browsers do for WebSockets.
func TestServeHTTPOverHTTP2(t *testing.T) {
	h := newHost(ws).echo()
	h.begin(t, t.Context())
	site := httptest.NewUnstartedServer(mount(h, true))
	site.EnableHTTP2 = true
	site.StartTLS()
	defer site.Close()
	h.addr = site.Listener.Addr().String()
	pool := x509.NewCertPool()
	pool.AddCert(site.Certificate())
	p := conformance.DialTLS(t, ws, h.addr, "/play/", &tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: []string{"http/1.1"}})
	conn := await(t, h.opened, "opened event")
	h.talk(t, p)
	assert.Nil(t, conn.Loop(), "TLS is a goroutine's")

	resp, err := site.Client().Get(site.URL + "/play/")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode, "no upgrade over HTTP/2")
}

func TestServeHTTPRefuses(t *testing.T) {
	h := newHost(ws)
	ask := func(h *host) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code
	}
	assert.Equal(t, http.StatusServiceUnavailable, ask(h), "not yet")
	h.begin(t, t.Context())
	assert.Equal(t, http.StatusBadRequest, ask(h), "no upgrade")
	h.Shutdown()
	require.NoError(t, h.Wait())
	assert.Equal(t, http.StatusServiceUnavailable, ask(h), "no longer")
	assert.Equal(t, map[server.Refusal]uint64{server.RefusedShutdown: 2, server.RefusedRequest: 1}, h.Stats().Refusals)
	assert.Equal(t, http.StatusNotImplemented, ask(newHost(tcp)))
}
