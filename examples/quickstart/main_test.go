package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/minotaur-gateway/gateway"
	"github.com/minotaur-gateway/gateway/internal/gwtest"
)

func TestMain(m *testing.M) { gwtest.Main(m) }

func TestConversationJudgesReplies(t *testing.T) {
	type packet struct {
		text string
		want verdict
	}
	next := func(c *conversation) { c.next() }
	giveUp := func(c *conversation) { c.giveUp() }
	hear := func(text string, want verdict) packet { return packet{text, want} }
	for _, test := range []struct {
		name  string
		steps []any
	}{
		{"replies in order", []any{next, hear("A 7 1", answered), next, hear("B 7 2", answered)}},
		{"another bot's", []any{next, hear("A 8 1", misrouted), hear("A 7 1", answered)}},
		{"never sent", []any{next, hear("A 7 2", misrouted), hear("A 7 0", misrouted)}},
		{"no reply at all", []any{next, hear("", misrouted), hear("A", misrouted), hear("A 7", misrouted), hear("A 7 x", misrouted)}},
		{"doubled", []any{next, hear("A 7 1", answered), hear("A 7 1", doubled), next, hear("A 7 1", doubled)}},
		{"late", []any{next, giveUp, hear("A 7 1", late), next, hear("A 7 2", answered)}},
		{"late, while the next one is open", []any{next, giveUp, next, hear("A 7 1", late), hear("A 7 2", answered)}},
		{"late and doubled", []any{next, giveUp, hear("A 7 1", late), hear("A 7 1", doubled)}},
		{"out of order", []any{next, giveUp, next, hear("A 7 2", answered), hear("A 7 1", outOfOrder)}},
		{"refused", []any{next, hear("! 7 1", refused), hear("A 7 1", answered)}},
		{"refused after it was given up", []any{next, giveUp, hear("! 7 1", overdue)}},
		{"refused after it was answered", []any{next, hear("A 7 1", answered), hear("! 7 1", doubled)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newConversation(7)
			for i, step := range test.steps {
				switch step := step.(type) {
				case func(*conversation):
					step(c)
				case packet:
					got, _ := c.hear(step.text)
					assert.Equal(t, step.want, got, "step %d: %q", i, step.text)
				}
			}
		})
	}
}

func TestSummaryFindsFault(t *testing.T) {
	for _, test := range []struct {
		name   string
		happen func(r *report)
		ok     bool
	}{
		{"nothing", func(r *report) {}, true},
		{"answered", func(r *report) { r.heard(answered, "7 1", 0) }, true},
		{"refused", func(r *report) { r.heard(refused, "7 1", 0) }, true},
		{"late", func(r *report) { r.missing("7 1"); r.heard(late, "7 1", 0) }, true},
		{"refused, when it was given up", func(r *report) { r.missing("7 1"); r.heard(overdue, "7 1", 0) }, true},
		{"missing, was in flight", func(r *report) { r.inFlight([]string{"7 1"}); r.missing("7 1") }, true},
		{"in flight, and yet answered", func(r *report) { r.inFlight([]string{"7 1"}) }, true},
		{"missing", func(r *report) { r.missing("7 1") }, false},
		{"missing, another was in flight", func(r *report) { r.inFlight([]string{"7 2"}); r.missing("7 1") }, false},
		{"misrouted", func(r *report) { r.heard(misrouted, "8 1", 0) }, false},
		{"doubled", func(r *report) { r.heard(doubled, "7 1", 0) }, false},
		{"out of order", func(r *report) { r.heard(outOfOrder, "7 1", 0) }, false},
		{"cut off", func(r *report) { r.cutOff() }, false},
		{"not connected", func(r *report) { r.unreachable(io.EOF) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReport(io.Discard)
			test.happen(r)
			assert.Equal(t, test.ok, r.summary())
		})
	}
}

func TestLedgerLosesWhatWasWrittenAndNotAnswered(t *testing.T) {
	dead, living := gateway.NewEndpoint(gameServer, nil), gateway.NewEndpoint(gameServer, nil)
	l := newLedger()
	message := func(text string) message { return message{"conn", text} }
	for _, text := range []string{"lost", "answered", "not written"} {
		l.forwarding(message(text), dead)
	}
	l.forwarding(message("elsewhere"), living)
	l.written(message("lost"))
	l.written(message("answered"))
	l.written(message("elsewhere"))
	l.end(message("answered"))
	assert.Equal(t, []string{"lost"}, l.lose(dead))
	assert.Empty(t, l.lose(dead), "a second time")
	assert.Len(t, l.open, 2)
	l.forget("conn")
	assert.Empty(t, l.open)
}

func TestPageKnowsTheGateway(t *testing.T) {
	recorder := httptest.NewRecorder()
	pageHandler("ws://127.0.0.1:8888/ws").ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, http.StatusOK, recorder.Code)
	assert.Contains(t, strings.ReplaceAll(recorder.Body.String(), `\/`, "/"), `const address = "ws://127.0.0.1:8888/ws"`)
}

// The whole story, with seconds that are short.
func TestStory(t *testing.T) {
	s := &show{report: newReport(t.Output()), second: 250 * time.Millisecond}
	require.NoError(t, s.run(t.Context(), false))
	assert.True(t, s.report.summary())
	assert.Equal(t, s.report.messages, s.report.heards[answered]+s.report.heards[late]+s.report.heards[overdue]+len(s.report.noReply))
	assert.Greater(t, s.report.heards[answered]+s.report.heards[late], webSocketBots+tcpBots)
}
