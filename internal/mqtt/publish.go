package mqtt

import (
	"errors"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/sys"
)

// publish gathers one PUBLISH for the next Append.
func (l *link) publish(t *turn, p *packet.Publish, routes *routes) error {
	if l.agreed.Redefines(p) { // what waits for room is decoded again, by the aliases as they were
		if err := l.flush(t); err != nil {
			return err
		}
	}
	name, err := l.resolve(p)
	if err != nil {
		return err
	}
	if rules := l.door.rewrite(); rules != nil {
		name = rules.Name(name, l.principal.who())
	}
	if p.QoS == 2 {
		if again, err := l.arrives(t, p.PacketID); again || err != nil {
			return err
		}
	}
	if err := l.toLog(t, p, name, routes); err != nil {
		if p.QoS == 2 {
			l.dismiss(p.PacketID)
		}
		if errors.Is(err, errBlocks) || errors.Is(err, errCrowded) {
			return err
		}
		return l.refuse(t, p, name, err)
	}
	if t.used == turnSlots || t.size >= turnBytes {
		return l.flush(t)
	}
	return nil
}

// toLog gathers a PUBLISH whose name is resolved, if the client may publish it. Errors: those of route, admit, delay.
func (l *link) toLog(t *turn, p *packet.Publish, name []byte, routes *routes) error {
	if isDollar(name) {
		switch {
		case delay.Delayed(name):
			return l.delay(t, p, name)
		case p.QoS < 2 && sys.IsBridge(name, p.Payload):
			return l.bridgeState(t, p, name)
		}
	}
	r, err := l.admittedRoute(t, p, name, routes)
	if err != nil {
		return err
	}
	l.gather(t, p, name, r, l.noLocal && l.member.Load().NoLocal(name))
	return nil
}

// admittedRoute finds where a PUBLISH goes, if it is admitted: a client that may not publish makes no topic of the log.
func (l *link) admittedRoute(t *turn, p *packet.Publish, name []byte, routes *routes) (*route, error) {
	if !isDollar(name) { // for which there is no route
		if err := l.admit(p, name); err != nil {
			return nil, err
		}
	}
	return l.route(t, name, routes)
}

// bridgeState takes what a bridge of Mosquitto says of itself: it goes to those who subscribe below $SYS, not to the
// log.
func (l *link) bridgeState(t *turn, p *packet.Publish, name []byte) error {
	if err := l.mayPublish(name); err != nil {
		return err
	}
	if p.QoS > 0 { // PUBACKs leave in the order of the messages
		if err := l.flush(t); err != nil {
			return err
		}
	}
	t.received[p.QoS]++
	t.payload += len(p.Payload)
	l.door.status.bridge(name, p.Payload)
	if p.QoS == 0 {
		return nil
	}
	err := l.answerInTurn(packet.PUBACK, p.PacketID, packet.Success)
	l.wire.push()
	return err
}

// resolve judges a PUBLISH and resolves its topic alias. An error ends the connection.
func (l *link) resolve(p *packet.Publish) (name []byte, err error) {
	if !p.Props.Has(packet.PropTopicAlias) || len(p.Topic) == 0 {
		return l.agreed.Publish(p)
	}
	if !l.account.Fits(int64(len(p.Topic))) {
		return nil, &packet.Error{Reason: packet.QuotaExceeded, Detail: "no memory for another topic alias"}
	}
	before := l.agreed.Held()
	name, err = l.agreed.Publish(p)
	l.account.Add(int64(l.agreed.Held() - before))
	return name, err
}

// admit asks who may publish, and whether another retained message fits.
func (l *link) admit(p *packet.Publish, name []byte) error {
	d := l.door
	if err := l.mayPublish(name); err != nil {
		return err
	}
	if p.Retain && len(p.Payload) > 0 && d.retained.Full(name) {
		return fault.New(fault.Limited, "mqtt.Publish", "%d topics have a retained message", d.retained.Len())
	}
	return packet.CheckPayload(&p.Props, p.Payload)
}

func (l *link) mayPublish(name []byte) error {
	if l.door.may(&l.principal, rule.Write, name) {
		return nil
	}
	l.door.tellRefused(&l.principal, rule.Write, audit.KindName, string(name), 0)
	return fault.New(fault.Denied, "mqtt.Publish", "%s may not publish to %s", fault.Text(l.principal.ClientID),
		fault.Text(name))
}

// gather puts a PUBLISH into a slot. The record points into the packet and the route, which stay as they are until the
// flush. Named has the record say who publishes it, for a subscription with No Local of the same client: whenever the
// message comes to that, by whatever connection, it is known as the client's own [MQTT-3.8.3-3]. The retained message
// always says so, for a subscription that may be made later.
func (l *link) gather(t *turn, p *packet.Publish, name []byte, r *route, named bool) {
	s := t.next()
	fill(&s.message, p, name)
	if r.audited {
		l.tellWrite(r.target.Topic)
	}
	if named {
		s.message.SetPublisher(l.principal.ClientID)
	}
	r.target.Record(&s.message, &s.record)
	s.record.Timestamp = t.unixMs
	s.writes, s.id, s.qos, s.partition, s.kind = 1, p.PacketID, p.QoS, r.partition, ackOf(p.QoS)
	t.exact = t.exact || p.QoS == 2
	t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: r.partition, Record: &s.record, Name: r.told})
	if p.Retain { // [MQTT-3.3.1-5] [MQTT-3.3.1-8]
		if !named {
			s.message.SetPublisher(l.principal.ClientID)
		}
		r.retainedTarget(name).Record(&s.message, &s.retained)
		s.retained.Timestamp = t.unixMs
		if len(p.Payload) == 0 { // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
			s.retained.Value = nil
		}
		s.writes = 2
		t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: l.door.retained.Partition(), Record: &s.retained})
	}
	if r.certificate != nil {
		l.certify(t, s, r.certificate)
	}
	if p.QoS > 0 {
		t.acks++
	}
	t.size += len(p.Payload)
}

// ackOf is the kind of acknowledgement that a message gets [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8].
func ackOf(qos byte) packet.Type {
	if qos == 2 {
		return packet.PUBREC
	}
	return packet.PUBACK
}

// fill makes m the message of a PUBLISH whose topic name is resolved.
func fill(m *hinge.Message, p *packet.Publish, name []byte) {
	m.Topic, m.Payload, m.QoS, m.Retain = name, p.Payload, p.QoS, p.Retain
	props := &p.Props
	m.HasExpiry, m.Expiry = props.Has(packet.PropMessageExpiry), props.MessageExpiry
	m.HasPayloadFormat, m.PayloadFormat = props.Has(packet.PropPayloadFormat), props.PayloadFormat
	m.ContentType, m.ResponseTopic = props.ContentType, props.ResponseTopic
	m.Correlation, m.UserProperties, m.Publisher = props.CorrelationData, props.User, nil
}

// flush appends what was gathered, as one unit. Errors: errCrowded, errEnded, those that end the connection.
func (l *link) flush(t *turn) error {
	if t.used == 0 {
		return nil
	}
	defer t.reset()
	slots := t.slots[:t.used]
	err := l.appendSlots(t, slots, &t.unit)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errCrowded):
		t.crowdedAt = slots[0].at
		return err
	case isFinal(err):
		return err
	}
	return l.flushEach(t)
}

// flushEach appends what was gathered message by message, because the log refused it as a whole: one message that is
// too large must not take the others with it.
func (l *link) flushEach(t *turn) error {
	writes := t.unit.Writes
	for i := range t.used {
		slots := t.slots[i : i+1]
		one := stream.Unit{Writes: writes[:slots[0].writes], Early: true}
		writes = writes[slots[0].writes:]
		err := l.appendSlots(t, slots, &one)
		switch {
		case errors.Is(err, errCrowded):
			t.crowdedAt = slots[0].at
			return err
		case isFinal(err):
			return err
		case err == nil:
			continue
		}
		if err := l.notStored(slots[0], err); err != nil {
			return err
		}
	}
	return nil
}

// isFinal tells whether an error of an Append ends the connection.
func isFinal(err error) bool {
	var wrong *packet.Error
	return errors.As(err, &wrong) || errors.Is(err, errEnded)
}

// appendSlots appends messages as one unit. Errors: *packet.Error when the client exceeds its receive maximum, errEnded
// when another has the session, those of append.
func (l *link) appendSlots(t *turn, slots []*slot, u *stream.Unit) error {
	acks := 0
	var ticket uint32
	if t.exact {
		t.packetIDs(slots)
	}
	if t.acks > 0 {
		var err error
		if acks, err = l.expect(slots); err != nil {
			l.dismiss(t.arrived...)
			return err
		}
		ticket = uint32(acks)
	}
	if ticket == 0 {
		ticket = ticketBare
		l.bareUnits(1)
	}
	err := l.appendUnit(t, u, ticket)
	if err == nil {
		for _, s := range slots {
			t.count(s)
		}
		return nil
	}
	if acks > 0 {
		l.withdraw(acks)
	}
	if ticket == ticketBare {
		l.bareUnits(-1)
	}
	if fault.Is(err, fault.Fenced) {
		return errEnded
	}
	return err
}

// ticketBare is the ticket of a unit with nothing to acknowledge. Others are how many acknowledgements it is for.
const ticketBare = 1 << 30

// expect notes the messages that will have an acknowledgement, and counts them.
func (l *link) expect(slots []*slot) (n int, err error) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	for _, s := range slots {
		if s.id == 0 {
			continue
		}
		if err := l.agreed.Acks.Expect(s.kind, s.id); err != nil {
			l.agreed.Acks.Withdraw(n)
			return 0, err
		}
		n++
	}
	return n, nil
}

func (l *link) withdraw(acks int) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.agreed.Acks.Withdraw(acks)
}

// notStored answers a message whose Append failed. MQTT 3 cannot say no, and neither can a PUBCOMP: the connection
// ends [MQTT-4.8.0-2 of 3.1.1], and the client sends it again when it is back.
func (l *link) notStored(s *slot, cause error) error {
	d := l.door
	l.drop(dropNotStored)
	d.opt.Logger.Debug("message not stored", "client", fault.Text(l.principal.ClientID), "error", cause)
	switch {
	case fault.Is(cause, fault.Closed):
		return &packet.Error{Reason: packet.ServerShuttingDown, Detail: cause.Error()}
	case s.id == 0:
		return nil
	case l.version != packet.V5 || s.kind == packet.PUBCOMP:
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: cause.Error()}
	}
	err := l.answerInTurn(s.kind, s.id, reasonOf(cause))
	l.wire.push()
	return err
}

// refuse answers a PUBLISH that never got to the log: PUBACK with the reason in its turn. MQTT 3 cannot say a reason.
// There what the client may not do, which includes topic names that begin with $, is acknowledged and dropped, as it is
// with QoS 0 [MQTT-3.3.5-2 of 3.1.1]; whatever else is wrong is our concern, and ends the connection as in notStored.
func (l *link) refuse(t *turn, p *packet.Publish, name []byte, cause error) error {
	if p.QoS > 0 {
		if err := l.flush(t); err != nil {
			return err
		}
	}
	t.received[p.QoS]++
	t.payload += len(p.Payload)
	l.drop(dropRefused)
	l.door.opt.Logger.Debug("message refused", "client", fault.Text(l.principal.ClientID), "error", cause)
	if p.QoS == 0 {
		return nil
	}
	reason := reasonOf(cause)
	switch wrong, ok := errors.AsType[*packet.Error](cause); {
	case ok:
		reason = wrong.Reason
	case fault.Is(cause, fault.Closed):
		return &packet.Error{Reason: packet.ServerShuttingDown, Detail: cause.Error()}
	case fault.Is(cause, fault.Invalid) || errors.Is(cause, errDollar):
		reason = packet.TopicNameInvalid
	}
	if l.version != packet.V5 {
		if !fault.Is(cause, fault.Denied) {
			return &packet.Error{Reason: packet.ServerUnavailable, Detail: cause.Error()}
		}
		reason = packet.Success
	}
	err := l.answerInTurn(ackOf(p.QoS), p.PacketID, reason)
	l.wire.push()
	return err
}

func isDollar(name []byte) bool { return len(name) > 0 && name[0] == '$' }

// settled takes the receipt of a unit: acknowledgements, in the order of the PUBLISH packets. It comes from the log's
// goroutine and does not block.
func (l *link) settled(ticket uint32, err error) {
	if ticket == ticketBare {
		if err != nil {
			l.door.metrics.dropped(dropNotStored).Inc()
		}
		l.bareUnits(-1)
		return
	}
	n := int(ticket)
	l.door.metrics.othersOut.Add(float64(n))
	reason := packet.Success
	if err != nil {
		reason = reasonOf(err)
		l.door.metrics.dropped(dropNotStored).Add(float64(max(n, 1)))
	}
	queue, lost := l.settle(n, reason)
	if lost {
		l.driver.disconnect(packet.ServerUnavailable)
	}
	if queue {
		l.driver.pushLater()
	}
}

// settle decides the n oldest acknowledgements, and puts those that are due into the outbox. Queue tells that a pusher
// has to be told; lost that a message was not stored and its client cannot be told so.
func (l *link) settle(n int, reason packet.ReasonCode) (queue, lost bool) {
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	acks := &l.agreed.Acks
	if w.mu.closed {
		acks.Settle(n, reason, nil)
	} else {
		w.putLocked(acks.Settle(n, reason, w.pendingLocked()))
		queue = !w.mu.queued
		w.mu.queued = true
	}
	if acks.Waiting() == 0 && l.out.seldom != nil {
		signal(&l.out.seldom.settled)
	}
	return queue, acks.Lost()
}
