//go:build linux && !noloops

package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/minotaur-gateway/gateway/server"
)

// What a client sends on an event loop while it is held back waits there, up to a bound.
func TestAdmissionFlooded(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			w := newWarden()
			h := serve(t, network, onLoops, server.WithAdmission(w.admit, 0))
			p := join(t, h, "ticket")
			asked := await(t, w.asked, "question")
			packet := make([]byte, 16<<10)
			for range server.MailboxBytes/len(packet) + 1 {
				p.Write(binary, packet)
			}
			p.ExpectFarewell(1008)
			p.Cut()
			assert.True(t, asked.conn.IsClosed())
			w.answer <- nil
			countedOut(t, h)
			unheard(t, h)
			assert.EqualValues(t, 1, h.Stats().MailboxesFull)
		})
	}
}
