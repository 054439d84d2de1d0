package main

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"time"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// page serves one HTML file, whose script plays over the gateway, and takes what its buttons send.
type page struct {
	url   string
	http  *http.Server
	ended chan error
}

// startPage serves the page on listener. gateway is the ws:// address that the page connects to.
func startPage(listener net.Listener, url, gateway string, backends []*backend) *page {
	p := &page{
		url: url, http: &http.Server{Handler: pageHandler(gateway, backends), ReadHeaderTimeout: 5 * time.Second},
		ended: make(chan error, 1),
	}
	go func() { p.ended <- p.http.Serve(listener) }()
	return p
}

func pageHandler(gateway string, backends []*backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := pageTemplate.Execute(w, struct{ Gateway string }{gateway}); err != nil {
			slog.Warn("page not written", "err", err)
		}
	})
	for _, b := range backends {
		mux.HandleFunc("POST /drain/"+b.name, func(w http.ResponseWriter, _ *http.Request) {
			b.drain()
			w.WriteHeader(http.StatusAccepted)
		})
		mux.HandleFunc("POST /undrain/"+b.name, func(w http.ResponseWriter, _ *http.Request) {
			b.undrain()
			w.WriteHeader(http.StatusNoContent)
		})
	}
	return http.NewCrossOriginProtection().Handler(mux) // no other site's page presses the buttons
}

func (p *page) close(ctx context.Context) error {
	err := p.http.Shutdown(ctx)
	if serveErr := <-p.ended; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
