package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

const (
	retainedTopic = "state"
	pace          = 5 * time.Millisecond // between two bursts of a sender
	burst         = 2                    // messages of a publisher
)

// words makes values: never the same twice, of any length, and told apart by their identity of 128 bits.
type words struct{ *rand.Rand }

func (w words) next(actor string, seq int) string {
	pad := strings.Repeat("x", w.IntN(50)*w.IntN(10))
	return fmt.Sprintf("%016x%016x %s %d %s.", w.Uint64(), w.Uint64(), actor, seq, pad)
}

// publisher is a device: QoS 1, many in flight. What was not acknowledged when the connection ended it sends
// again, in order, before anything new.
type publisher struct {
	name   string
	topics []string // MQTT topics it publishes to, in turn
	retain bool
	words  words
	// refusable says that the disk may fail: a message that was refused is sent again.
	refusable bool
	h         *history
	pause     time.Duration // between two bursts; 0: pace

	seq  int        // of the next new message
	sent []*message // new ones of this connection
	open []*message // sent before this connection and not acknowledged
}

// run publishes until the connection ends, or until ctx is done: then it waits for what is in flight.
func (p *publisher) run(ctx context.Context, address string) error {
	c, err := client.Dial(context.Background(), address, client.Options{ClientID: p.name, Inflight: 64, OnAck: p.acked})
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(max(p.pause, pace))
	defer tick.Stop()
	again := p.open
	for ctx.Err() == nil || len(again) > 0 {
		for range burst {
			m := p.next(&again)
			m.sends.Add(1)
			if c.Publish(p.packet(m), m.ticket) != nil {
				return nil // the connection has ended: it settle sees to it
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := c.Drain(limit); err != nil && limit.Err() != nil {
		return err // the server lives and does not acknowledge
	}
	return nil
}

// next is the next message to send: an old one without acknowledgement, or a new one.
func (p *publisher) next(again *[]*message) *message {
	if len(*again) > 0 {
		m := (*again)[0]
		*again = (*again)[1:]
		return m
	}
	seq := p.seq
	p.seq++
	key := p.topics[seq%len(p.topics)]
	topic, _, _ := strings.Cut(key, "/")
	m := &message{actor: p.name, seq: seq, topic: topic, key: key, value: p.words.next(p.name, seq)}
	p.h.add(m)
	p.sent = append(p.sent, m)
	return m
}

func (p *publisher) packet(m *message) *packet.Publish {
	return &packet.Publish{Topic: []byte(m.key), Payload: []byte(m.value), QoS: 1, Retain: p.retain}
}

// acked is called by the client's reader.
func (p *publisher) acked(ticket uint64, reason packet.ReasonCode, err error) {
	m := p.h.message(ticket)
	switch {
	case m == nil:
		p.h.complain("%s: acknowledgement %d of nothing", p.name, ticket)
	case err != nil:
		return // the connection ended first: nobody knows
	case reason >= 0x80 && p.refusable:
		m.refused.Store(true)
	case reason >= 0x80:
		p.h.complain("%s %d was refused: %v", p.name, ticket, reason)
	case !m.acked.Load():
		m.ackedAt = time.Now()
		m.acked.Store(true)
	}
}

// settle finds out what has no acknowledgement. The connection has ended.
func (p *publisher) settle() {
	open := []*message{}
	for _, m := range append(p.open, p.sent...) {
		if !m.acked.Load() {
			open = append(open, m)
		}
	}
	p.open, p.sent = open, nil
}
