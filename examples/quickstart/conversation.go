package main

import (
	"fmt"
	"strconv"
	"strings"
)

// conversation is one bot's messages, "BOT NUMBER" with the numbers 1, 2, 3..., and what it makes of the replies, "A BOT
// NUMBER". One message is open at a time. It belongs to one goroutine.
type conversation struct {
	bot     int
	number  uint64          // of the last message
	open    bool            // that one waits for its reply
	highest uint64          // number that was answered
	givenUp map[uint64]bool // numbers that were not answered in time
}

// verdict is what a packet from the gateway was.
type verdict int

const (
	answered   verdict = iota // the reply to the open message
	refused                   // the open message could not be forwarded: it has to be sent again
	overdue                   // the same of a message that was given up
	late                      // the reply to a message that was given up
	misrouted                 // somebody else's reply, or one to nothing that was sent
	doubled                   // a reply that had come before
	outOfOrder                // a reply that a later message's reply has overtaken
	verdicts
)

func newConversation(bot int) *conversation {
	return &conversation{bot: bot, givenUp: map[uint64]bool{}}
}

// next opens the next message.
func (c *conversation) next() {
	c.number++
	c.open = true
}

// text is the last message.
func (c *conversation) text() string { return c.textOf(c.number) }

func (c *conversation) textOf(number uint64) string { return fmt.Sprintf("%d %d", c.bot, number) }

// giveUp closes the open message without a reply.
func (c *conversation) giveUp() {
	c.open = false
	c.givenUp[c.number] = true
}

// missing returns the messages that were given up, and of which nothing was heard since.
func (c *conversation) missing() (texts []string) {
	for number := range c.givenUp {
		texts = append(texts, c.textOf(number))
	}
	return texts
}

// hear judges a packet, and returns the message that it is about.
func (c *conversation) hear(packet string) (v verdict, text string) {
	from, text, _ := strings.Cut(packet, " ")
	bot, digits, _ := strings.Cut(text, " ")
	number, err := strconv.ParseUint(digits, 10, 64)
	mine := err == nil && bot == strconv.Itoa(c.bot) && number >= 1 && number <= c.number
	current := c.open && number == c.number
	switch {
	case !mine:
		return misrouted, text
	case from == refusal && current:
		return refused, text
	case from == refusal && c.givenUp[number]:
		delete(c.givenUp, number)
		return overdue, text
	case current:
		c.open, c.highest = false, number
		return answered, text
	case !c.givenUp[number]:
		return doubled, text
	}
	delete(c.givenUp, number)
	if number < c.highest {
		return outOfOrder, text
	}
	c.highest = number
	return late, text
}
