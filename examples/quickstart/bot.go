package main

import (
	"context"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

const (
	replyTimeout  = 2 * time.Second       // after which a message counts as missing
	talkPause     = 20 * time.Millisecond // between a reply and the next message
	againPause    = 20 * time.Millisecond // before a message that was refused is sent again
	inboxCapacity = 64
)

// bot is a player: it sends a number, waits for the reply, and sends the next one.
type bot struct {
	*conversation
	report *report
	cli    *client.Client
	inbox  chan arrival
	cut    chan struct{} // closed when the connection has ended
	left   chan struct{} // closed when nobody reads inbox any more
	sentAt time.Time     // the open message, for the first time
}

// arrival is a packet from the gateway.
type arrival struct {
	packet string
	at     time.Time
}

func newBot(number int, cli *client.Client, report *report) *bot {
	b := &bot{
		conversation: newConversation(number), report: report, cli: cli,
		inbox: make(chan arrival, inboxCapacity), cut: make(chan struct{}), left: make(chan struct{}),
	}
	cli.RegConnectionReceivePacketEvent(func(_ *client.Client, _ int, packet []byte) {
		select {
		case b.inbox <- arrival{string(packet), time.Now()}:
		case <-b.left:
		}
	})
	cli.RegConnectionClosedEvent(func(*client.Client, any) { close(b.cut) })
	return b
}

// run connects and talks until ctx is done. A bot doesn't leave with a message open: it waits for the reply, or gives up. Nor
// does it leave while a reply may still come.
func (b *bot) run(ctx context.Context) {
	if err := b.cli.Run(); err != nil {
		b.report.unreachable(err)
		return
	}
	b.report.online(1)
	b.talk(ctx)
	b.linger()
	b.report.online(-1)
	b.cli.Close()
	close(b.left)
	for len(b.inbox) > 0 { // nothing that comes is left out
		b.hear(<-b.inbox)
	}
}

func (b *bot) talk(ctx context.Context) {
	send, limit := time.NewTimer(talkPause), time.NewTimer(replyTimeout)
	limit.Stop()
	leave, leaving := ctx.Done(), false
	for b.open || !leaving {
		select {
		case <-send.C:
			if !b.open {
				b.next()
				b.sentAt = time.Now()
				b.report.sent()
			}
			b.cli.Write([]byte(b.text())) // fails only if the connection is lost: see cut
			limit.Reset(replyTimeout)
		case a := <-b.inbox:
			switch b.hear(a) {
			case answered:
				limit.Stop()
				send.Reset(talkPause)
			case refused: // it isn't on its way any more
				limit.Stop()
				send.Reset(againPause)
			}
		case <-limit.C:
			b.giveUp()
			send.Reset(talkPause)
		case <-leave:
			leave, leaving = nil, true
		case <-b.cut:
			b.report.cutOff()
			if b.open {
				b.giveUp()
			}
			return
		}
	}
}

// linger waits for replies that are late: nobody knows that they will not come. On a busy machine that takes longer than
// replyTimeout.
func (b *bot) linger() {
	look, limit := time.NewTicker(talkPause), time.NewTimer(patience)
	defer look.Stop()
	defer limit.Stop()
	for !b.report.explains(b.missing()) {
		select {
		case a := <-b.inbox:
			b.hear(a)
		case <-look.C:
		case <-b.cut:
			return
		case <-limit.C:
			return
		}
	}
}

// hear reports a packet.
func (b *bot) hear(a arrival) verdict {
	v, text := b.conversation.hear(a.packet)
	b.report.heard(v, text, a.at.Sub(b.sentAt))
	return v
}

func (b *bot) giveUp() {
	b.conversation.giveUp()
	b.report.missing(b.text())
}
