package mqtt

import (
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// subscribe puts subscriptions in force, then answers, then sends what is retained: everything that is
// acknowledged after the SUBACK comes, live or retained.
func (c *conn) subscribe(t *turn, p *packet.Subscribe) error {
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		if !one.Reason.Failed() && !c.door.may(&c.principal, Subscribe, one.Filter) {
			one.Reason = packet.NotAuthorized
		}
	}
	if c.member == nil {
		c.member = c.door.fanout.Join(c)
	}
	c.mu.Lock()
	t.grants = c.mu.session.Subscribe(p, t.grants[:0])
	c.mu.Unlock()
	suback := packet.Suback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(t.grants))}
	for i := range t.grants {
		g := &t.grants[i]
		suback.Reasons = append(suback.Reasons, g.Reason)
		if g.Sub != nil {
			c.noLocal = c.noLocal || g.Sub.NoLocal
			c.door.fanout.Subscribe(c.member, g.Sub, g.Old)
		}
	}
	if err := c.answerWith(&suback); err != nil {
		return err
	}
	for i := range t.grants {
		if g := &t.grants[i]; g.Sub != nil && g.Retained {
			c.sendRetained(g.Sub)
		}
	}
	clear(t.grants)
	return nil
}

// unsubscribe ends subscriptions. Nothing comes by them after the UNSUBACK but what was on its way.
func (c *conn) unsubscribe(p *packet.Unsubscribe) error {
	unsuback := packet.Unsuback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(p.Filters))}
	for _, filter := range p.Filters {
		c.mu.Lock()
		sub := c.mu.session.Unsubscribe(filter)
		c.mu.Unlock()
		reason := packet.NoSubscriptionExisted
		if sub != nil {
			c.door.fanout.Unsubscribe(c.member, sub)
			reason = packet.Success
		}
		unsuback.Reasons = append(unsuback.Reasons, reason)
	}
	return c.answerWith(&unsuback)
}

// sendRetained asks for the retained messages of a subscription. They flow beside everything else and
// wait, however many they are, for room in the outbox and in the window.
func (c *conn) sendRetained(sub *session.Subscription) {
	c.door.retained.Send(sub.Filter, &retainedReceiver{conn: c, sub: sub})
}

var _ retain.Receiver = (*retainedReceiver)(nil)
