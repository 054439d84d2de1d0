package server

import (
	"errors"
	"net/http"

	"github.com/gorilla/websocket"
)

var (
	errOldHTTP    = errors.New("websocket: not HTTP/1.1")
	errOldVersion = errors.New("websocket: another version of the protocol than 13")
)

// unfit answers a request for an upgrade that RFC 6455 (4.2) wants answered otherwise than gorilla does, and returns what is wrong with
// it.
func unfit(w http.ResponseWriter, r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return nil
	}
	if !r.ProtoAtLeast(1, 1) {
		http.Error(w, errOldHTTP.Error(), http.StatusBadRequest)
		return errOldHTTP
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" {
		w.Header().Set("Sec-Websocket-Version", "13")
		http.Error(w, errOldVersion.Error(), http.StatusUpgradeRequired)
		return errOldVersion
	}
	return nil
}
