package mqtt

import (
	"context"
	"errors"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// publish gathers one PUBLISH for the next Append.
//
// The session's aliases belong to the reader, so that Publish needs no lock.
func (c *conn) publish(t *turn, p *packet.Publish) error {
	name, err := c.mu.session.Publish(p)
	if err != nil {
		return err
	}
	r, err := c.route(t, name)
	if errors.Is(err, errDefer) {
		return err
	}
	t.received[p.QoS]++
	if err == nil {
		err = c.admit(p, name)
	}
	if err != nil {
		return c.refuse(t, p, name, err)
	}
	own := c.noLocal && c.member.NoLocal(name)
	if own { // its offset must be known by itself: see fanout.Member.Publishing
		if err := c.flush(t); err != nil {
			return err
		}
	}
	c.gather(t, p, name, r)
	switch {
	case own:
		return c.flushOwn(t, r.partition)
	case t.used == turnSlots || t.size >= turnBytes:
		return c.flush(t)
	}
	return nil
}

// admit asks who may publish, and whether another retained message fits.
func (c *conn) admit(p *packet.Publish, name []byte) error {
	const op = "mqtt.Publish"
	d := c.door
	if !d.may(&c.principal, Publish, name) {
		return fault.New(fault.Denied, op, "%s may not publish to %s",
			fault.Text(c.principal.ClientID), fault.Text(name))
	}
	if p.Retain && len(p.Payload) > 0 && d.retained.Full(name) {
		return fault.New(fault.Limited, op, "%d topics have a retained message", d.retained.Len())
	}
	return nil
}

// gather puts a PUBLISH into a slot. The record points into the packet and the route, which stay as
// they are until the flush.
func (c *conn) gather(t *turn, p *packet.Publish, name []byte, r *route) {
	s := t.next()
	fill(&s.message, p, name)
	r.target.Record(&s.message, &s.record)
	s.record.Timestamp = t.unixMs
	s.writes, s.id = 1, p.PacketID
	t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: r.partition, Record: &s.record})
	if p.Retain {
		r.retainedTarget(name).Record(&s.message, &s.retained)
		s.retained.Timestamp = t.unixMs
		if len(p.Payload) == 0 { // [MQTT-3.3.1-6]
			s.retained.Value = nil
		}
		s.writes = 2
		t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: c.door.retained.Partition(), Record: &s.retained})
	}
	if p.QoS > 0 {
		t.ids = append(t.ids, p.PacketID)
	}
	t.size += len(p.Payload)
}

// fill makes m the message of a PUBLISH whose topic name is resolved.
func fill(m *hinge.Message, p *packet.Publish, name []byte) {
	m.Topic, m.Payload, m.QoS, m.Retain = name, p.Payload, p.QoS, p.Retain
	props := &p.Props
	m.HasExpiry, m.Expiry = props.Has(packet.PropMessageExpiry), props.MessageExpiry
	m.HasPayloadFormat, m.PayloadFormat = props.Has(packet.PropPayloadFormat), props.PayloadFormat
	m.ContentType, m.ResponseTopic = props.ContentType, props.ResponseTopic
	m.Correlation, m.UserProperties = props.CorrelationData, props.User
}

// ticket of an Append: how many PUBACKs it is for, and whether it is a single own message.
const (
	ticketCount = 1<<32 - 1
	ticketOwn   = 1 << 32
)

// flush appends what was gathered, as one unit.
func (c *conn) flush(t *turn) error {
	if t.used == 0 {
		return nil
	}
	defer t.reset()
	n := len(t.ids)
	var to stream.Receipt
	if n > 0 {
		to = c
		if err := c.receive(t.ids); err != nil {
			return err
		}
	}
	err := c.append(&t.unit, to, uint64(n))
	if err == nil {
		return nil
	}
	if n > 0 {
		c.mu.Lock()
		c.mu.session.Withdraw(n)
		c.mu.Unlock()
	}
	return c.flushEach(t)
}

// append gives a unit to the log, and waits in turn while there is no room.
func (c *conn) append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	return stream.AppendWait(context.Background(), c.door.opt.Log, u, to, ticket)
}

// receive notes packet ids as waiting for the log.
func (c *conn) receive(ids []uint16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if err := c.mu.session.Receive(id); err != nil {
			return err
		}
	}
	return nil
}

// flushEach appends what was gathered message by message, because the log refused it as a whole: one
// message that is too large must not take the others with it.
func (c *conn) flushEach(t *turn) error {
	writes := t.unit.Writes
	for _, s := range t.slots[:t.used] {
		w := writes[:s.writes]
		writes = writes[s.writes:]
		var to stream.Receipt
		ticket := uint64(0)
		if s.id != 0 {
			to, ticket = c, 1
			if err := c.receive([]uint16{s.id}); err != nil {
				return err
			}
		}
		if err := c.append(&stream.Unit{Writes: w}, to, ticket); err != nil {
			if err := c.notStored(s.id, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// flushOwn appends one message that the session itself must not get: its receipt tells which it is.
func (c *conn) flushOwn(t *turn, p stream.PartitionID) error {
	defer t.reset()
	if err := c.receive(t.ids); err != nil {
		return err
	}
	c.mu.Lock()
	c.mu.own = append(c.mu.own, p)
	c.mu.Unlock()
	c.member.Publishing(p)
	err := c.append(&t.unit, c, ticketOwn|uint64(len(t.ids)))
	if err == nil {
		return nil
	}
	c.mu.Lock()
	c.mu.own = c.mu.own[:len(c.mu.own)-1]
	c.mu.Unlock()
	c.member.Published(p, -1)
	return c.notStored(t.slots[0].id, err)
}

// notStored answers a message whose Append failed; its id was received last.
func (c *conn) notStored(id uint16, cause error) error {
	d := c.door
	d.metrics.dropped(dropNotStored).Inc()
	d.opt.Logger.Debug("message not stored", "client", fault.Text(c.principal.ClientID), "err", cause)
	switch {
	case fault.Is(cause, fault.Closed):
		return &packet.Error{Reason: packet.ServerShuttingDown, Detail: cause.Error()}
	case id == 0:
		return nil
	case c.version != packet.V5: // it cannot say no; the client sends it again when it is back
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: cause.Error()}
	}
	c.mu.Lock()
	c.put(c.mu.session.Refuse(1, reasonOf(cause), c.pending()))
	c.mu.Unlock()
	c.push()
	return nil
}

// refuse answers a PUBLISH that never got to the log: PUBACK with the reason in its turn. MQTT 3 cannot say a reason.
// There what the client may not do, which includes topic names that begin with $, is acknowledged and dropped, as it is
// with QoS 0 [MQTT-3.3.5-2 of 3.1.1]; whatever else is wrong is our concern, and ends the connection as in notStored.
func (c *conn) refuse(t *turn, p *packet.Publish, name []byte, cause error) error {
	c.door.metrics.dropped(dropRefused).Inc()
	c.door.opt.Logger.Debug("message refused", "client", fault.Text(c.principal.ClientID), "err", cause)
	if p.QoS == 0 {
		return nil
	}
	reason := reasonOf(cause)
	switch {
	case fault.Is(cause, fault.Closed):
		return &packet.Error{Reason: packet.ServerShuttingDown, Detail: cause.Error()}
	case fault.Is(cause, fault.Invalid) || isDollar(name):
		reason = packet.TopicNameInvalid
	}
	if c.version != packet.V5 && !fault.Is(cause, fault.Denied) {
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: cause.Error()}
	}
	if err := c.flush(t); err != nil {
		return err
	}
	if err := c.receive([]uint16{p.PacketID}); err != nil {
		return err
	}
	c.mu.Lock()
	c.put(c.mu.session.Refuse(1, reason, c.pending()))
	c.mu.Unlock()
	c.push()
	return nil
}

func isDollar(name []byte) bool { return len(name) > 0 && name[0] == '$' }

// Appended implements stream.Receipt: PUBACK, in the order of the PUBLISH packets. It is called from the
// log's goroutine and does not block.
func (c *conn) Appended(ticket uint64, at stream.Placed, err error) {
	if ticket&ticketOwn != 0 {
		c.ownAppended(at)
	}
	n := int(ticket & ticketCount)
	reason := packet.Success
	if err != nil {
		reason = reasonOf(err)
		c.door.metrics.dropped(dropNotStored).Add(float64(max(n, 1)))
		if n > 0 && c.version != packet.V5 {
			c.end(packet.ServerUnavailable)
			return
		}
	}
	c.mu.Lock()
	queue := false
	if c.mu.closed {
		c.mu.session.Settle(n, reason, nil)
	} else {
		c.put(c.mu.session.Settle(n, reason, c.pending()))
		queue = !c.mu.out.queued
		c.mu.out.queued = true
	}
	if c.mu.session.Waiting() == 0 {
		signal(&c.mu.settled)
	}
	c.mu.Unlock()
	if queue {
		c.pusher.add(c)
	}
}

func (c *conn) ownAppended(at stream.Placed) {
	c.mu.Lock()
	p := c.mu.own[0]
	c.mu.own = c.mu.own[:copy(c.mu.own, c.mu.own[1:])]
	c.mu.Unlock()
	base := record.Offset(-1)
	if at != nil {
		base = at.Offset(0)
	}
	c.member.Published(p, base)
}

// publishWill publishes the will of a session that ended without a DISCONNECT.
func (c *conn) publishWill(will *packet.Publish) {
	t := c.door.takeTurn()
	defer c.door.giveTurn(t)
	r, err := c.route(t, will.Topic)
	if err == nil {
		err = c.admit(will, will.Topic)
	}
	if err == nil {
		c.gather(t, will, will.Topic, r)
		err = c.append(&t.unit, nil, 0)
	}
	if err != nil {
		c.door.metrics.dropped(dropRefused).Inc()
		c.door.opt.Logger.Warn("will not published",
			"client", fault.Text(c.principal.ClientID), "topic", fault.Text(will.Topic), "err", err)
	}
}
