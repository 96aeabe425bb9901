package mqtt

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// Deliver implements fanout.Sink: one PUBLISH into the outbox. QoS 0 is dropped when the outbox is
// full, QoS 1 never: then the session reads the log later.
func (c *conn) Deliver(m *fanout.Message, d *fanout.Delivery) fanout.Verdict {
	door := c.door
	if !door.may(&c.principal, Receive, m.Topic()) {
		door.metrics.dropped(dropDenied).Inc()
		return fanout.Taken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed || c.mu.out.broken {
		return fanout.Gone
	}
	s := c.mu.session
	switch full := c.mu.out.size() >= door.opt.OutboxBytes; {
	case full && d.QoS == 0 && !d.CatchUp:
		door.metrics.dropped(dropOutbox).Inc()
		return fanout.Taken
	case full || d.QoS > 0 && s.Out.Full():
		c.mu.starved = true
		return fanout.Later
	}
	frame, at := m.Frame(s.Version(), d)
	if len(frame) > s.MaxPacket() { // dropped as if it were acknowledged [MQTT-3.1.2-25]
		door.metrics.dropped(dropTooLarge).Inc()
		return fanout.Taken
	}
	b := c.pending()
	from := len(b)
	b = append(b, frame...)
	if at > 0 {
		id, _ := s.Out.Send(d.From)
		b[from+at], b[from+at+1] = byte(id>>8), byte(id)
	}
	c.put(b)
	c.mu.sent[d.QoS&1]++
	return fanout.Taken
}

// Flush implements fanout.Sink.
func (c *conn) Flush() {
	c.mu.Lock()
	sent := c.mu.sent
	c.mu.sent = [2]int{}
	c.mu.Unlock()
	c.push()
	for qos, n := range sent {
		if n > 0 {
			c.door.metrics.sent[qos].Add(float64(n))
		}
	}
}

// wake tells everybody who was told Later that there is room.
func (c *conn) wake() {
	if c.member != nil {
		c.member.Wake()
	}
	c.mu.Lock()
	requests := c.mu.requests
	c.mu.requests = nil
	c.mu.Unlock()
	for _, r := range requests {
		c.door.retained.Resume(r)
	}
}

// retainedReceiver sends the retained messages of one subscription.
type retainedReceiver struct {
	conn    *conn
	sub     *session.Subscription
	message fanout.Message
}

// Retained implements retain.Receiver. The RETAIN flag is always set [MQTT-3.3.1-8].
func (r *retainedReceiver) Retained(q *retain.Request, m *hinge.Message, at record.Offset) retain.Outcome {
	door := r.conn.door
	if !r.message.Set(m, door.opt.Clock()) {
		return retain.Sent // expired
	}
	d := fanout.Delivery{
		QoS: min(r.message.QoS(), r.sub.QoS), Retain: true, CatchUp: true,
		From: session.Place{Partition: uint32(door.retained.Partition()), Offset: int64(at)},
	}
	if r.sub.ID > 0 {
		d.IDs = []uint32{r.sub.ID}
	}
	switch r.conn.Deliver(&r.message, &d) {
	case fanout.Later:
		r.conn.resumeLater(q)
		return retain.Later
	case fanout.Gone:
		return retain.Stop
	default:
		return retain.Sent
	}
}

// resumeLater has a request go on when there is room. That may be by now: then it goes on at once.
func (c *conn) resumeLater(q *retain.Request) {
	c.mu.Lock()
	starved := c.mu.starved
	if starved {
		c.mu.requests = append(c.mu.requests, q)
	}
	c.mu.Unlock()
	if !starved {
		c.door.retained.Resume(q)
	}
}

// RetainedFlush implements retain.Receiver.
func (r *retainedReceiver) RetainedFlush() { r.conn.Flush() }
