package mqtt

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// deliver puts one PUBLISH into the outbox. QoS 0 is dropped when the outbox is full, what is above it never: then the
// session reads the log later.
func (l *link) deliver(m *fanout.Message, d *fanout.Delivery) fanout.Verdict {
	door := l.door
	if !door.may(&l.principal, Receive, m.Topic()) {
		door.metrics.dropped(dropDenied).Inc()
		return fanout.Taken
	}
	frame, at := m.Frame(l.version, d)
	if len(frame) > l.agreed.MaxPacket() { // dropped as if it were acknowledged [MQTT-3.1.2-25]
		door.metrics.dropped(dropTooLarge).Inc()
		return fanout.Taken
	}
	if d.QoS > 0 {
		return l.deliverTracked(frame, at, d)
	}
	// One that is larger than the bound by itself is not dropped because another one is on its way.
	waits := d.CatchUp || len(frame) > door.opt.OutboxBytes
	verdict := l.enqueue(frame, waits)
	if verdict == fanout.Later && !waits {
		// Much may have come in one run that the client would take at once.
		if !l.wire.stalled.Load() {
			l.wire.push()
			verdict = l.enqueue(frame, false)
		}
		if verdict == fanout.Later {
			door.metrics.dropped(dropOutbox).Inc()
			return fanout.Taken
		}
	}
	return verdict
}

// enqueue puts a PUBLISH of QoS 0 into the outbox; Later: it is full. Waits tells that it comes again when there is
// room.
func (l *link) enqueue(frame []byte, waits bool) fanout.Verdict {
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mu.closed || w.mu.broken:
		return fanout.Gone
	case w.fullLocked(len(frame), l.waiter(waits)):
		if waits {
			w.starved.Store(true)
		}
		return fanout.Later
	}
	w.appendLocked(frame)
	l.out.sent[0]++
	w.ripenLocked()
	return fanout.Taken
}

// deliverTracked does the same for one that the client acknowledges: it takes its packet id from the session. The seat
// is locked before the wire.
func (l *link) deliverTracked(frame []byte, at int, d *fanout.Delivery) fanout.Verdict {
	state := l.term.Lock()
	if state == nil {
		return fanout.Gone
	}
	defer l.term.Unlock()
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.mu.closed || w.mu.broken:
		return fanout.Gone
	case w.fullLocked(len(frame), l.memoryRoomy) || state.Out.Full():
		w.starved.Store(true)
		return fanout.Later
	}
	b := w.appendLocked(frame)
	id, _ := state.Out.Send(d.From)
	b[at], b[at+1] = byte(id>>8), byte(id)
	l.out.sent[d.QoS]++
	w.ripenLocked()
	return fanout.Taken
}

// waiter is who is to be told of room for a delivery of QoS 0: nobody, if it is dropped.
func (l *link) waiter(waits bool) func() {
	if waits {
		return l.memoryRoomy
	}
	return nil
}

// noteRoomy is called by the budget of the door when a message may fit that did not.
func (l *link) noteRoomy() {
	l.leaveLine()
	l.wakeDeliveries()
}

func (l *link) leaveLine() {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.mu.queuing = false
}

// flushDeliveries has what was delivered written.
func (l *link) flushDeliveries() {
	sent := l.takeSent()
	l.wire.push()
	for qos, n := range sent {
		if n > 0 {
			l.door.metrics.sent[qos].Add(float64(n))
		}
	}
}

func (l *link) takeSent() (sent [session.QoSLevels]int) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	sent, l.out.sent = l.out.sent, sent
	return sent
}

// wakeDeliveries tells those who were told Later that there is room, if there is in the window too.
func (l *link) wakeDeliveries() {
	state := l.term.Lock()
	if state == nil {
		return
	}
	roomy := state.Out.Roomy()
	l.term.Unlock()
	if roomy && l.wire.unstarve() {
		l.wakeStarved()
	}
}

// wakeStarved tells everybody who was told Later that there is room.
func (l *link) wakeStarved() {
	if m := l.member.Load(); m != nil {
		m.Wake()
	}
	for _, r := range l.takeRequests() {
		l.door.retained.Resume(r)
	}
}

func (l *link) takeRequests() (requests []*retain.Request) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	requests, l.out.requests = l.out.requests, nil
	return requests
}

// retainedReceiver sends the retained messages of one subscription.
type retainedReceiver struct {
	link    *link
	sub     *session.Subscription
	message fanout.Message
}

var _ retain.Receiver = (*retainedReceiver)(nil)

// Retained implements retain.Receiver. The RETAIN flag is always set [MQTT-3.3.1-8].
func (r *retainedReceiver) Retained(q *retain.Request, m *hinge.Message, at record.Offset) retain.Outcome {
	door := r.link.door
	if !r.link.subscribed(r.sub.Filter) { // [MQTT-3.10.4-2]
		return retain.Stop
	}
	if !r.message.Set(m, door.opt.Judge(m.Timestamp, door.opt.Clock())) {
		return retain.Sent // expired
	}
	d := fanout.Delivery{
		QoS: min(r.message.QoS(), r.sub.QoS), Retain: true, CatchUp: true,
		From: session.Place{Partition: uint32(door.retained.Partition()), Offset: int64(at)},
	}
	if r.sub.ID > 0 {
		d.IDs = []uint32{r.sub.ID}
	}
	switch r.link.driver.Deliver(&r.message, &d) {
	case fanout.Later:
		r.link.resumeLater(q)
		return retain.Later
	case fanout.Gone:
		return retain.Stop
	default:
		return retain.Sent
	}
}

// resumeLater has a request go on when there is room. That may be by now: then it goes on at once.
func (l *link) resumeLater(q *retain.Request) {
	if !l.remember(q) {
		l.door.retained.Resume(q)
	}
}

func (l *link) remember(q *retain.Request) (starved bool) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if starved = l.wire.starved.Load(); starved {
		l.out.requests = append(l.out.requests, q)
	}
	return starved
}

// RetainedFlush implements retain.Receiver.
func (r *retainedReceiver) RetainedFlush() { r.link.driver.Flush() }

// subscribe puts subscriptions in force, then answers, then sends what is retained: everything that is acknowledged
// after the SUBACK comes, live or retained. What came before the SUBSCRIBE, on this connection or with RETAIN on any,
// is older than the subscriptions.
func (l *link) subscribe(t *turn, p *packet.Subscribe) error {
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		if !one.Reason.Failed() && !l.door.may(&l.principal, Subscribe, one.Filter) {
			one.Reason = packet.NotAuthorized
		}
	}
	member := l.member.Load()
	if member == nil {
		member = l.door.fanout.Join(l.driver)
		l.member.Store(member)
	}
	l.awaitStored()
	state := l.term.Lock()
	if state == nil {
		return errEnded
	}
	before := state.Held()
	t.grants = state.Subscribe(p, l.roomForFilters(before), t.grants[:0])
	l.account.Add(int64(state.Held() - before))
	l.term.Unlock()
	defer clear(t.grants)
	ask := l.door.retained.Begin()
	defer ask.End()
	suback := packet.Suback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(t.grants))}
	for i := range t.grants {
		g := &t.grants[i]
		suback.Reasons = append(suback.Reasons, g.Reason)
		if g.Sub != nil {
			l.noLocal = l.noLocal || g.Sub.NoLocal
			l.door.fanout.Subscribe(member, g.Sub, g.Old)
		}
	}
	if err := l.answerWith(&suback); err != nil {
		return err
	}
	for i := range t.grants {
		if g := &t.grants[i]; g.Sub != nil && g.Retained {
			l.sendRetained(ask, member, g.Sub)
		}
	}
	return nil
}

// maxFilterBytes is how much the filters of one client may make us hold.
const maxFilterBytes = 16 << 20

// roomForFilters is how much filters may add to what they make us hold.
func (l *link) roomForFilters(held int) int {
	return int(min(int64(maxFilterBytes-held), l.door.budget.Share()-l.account.Held()))
}

// unsubscribe ends subscriptions. Nothing comes by them after the UNSUBACK but what was on its way.
func (l *link) unsubscribe(p *packet.Unsubscribe) error {
	unsuback := packet.Unsuback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(p.Filters))}
	for _, filter := range p.Filters {
		state := l.term.Lock()
		if state == nil {
			return errEnded
		}
		before := state.Held()
		sub := state.Unsubscribe(filter)
		freed := before - state.Held()
		l.term.Unlock()
		l.account.Add(-int64(freed))
		reason := packet.NoSubscriptionExisted
		if sub != nil {
			l.door.fanout.Unsubscribe(l.member.Load(), sub)
			reason = packet.Success
		}
		unsuback.Reasons = append(unsuback.Reasons, reason)
	}
	return l.answerWith(&unsuback)
}

// sendRetained asks for the retained messages of a subscription. They flow beside everything else and wait, however
// many they are, for room in the outbox and in the window.
func (l *link) sendRetained(ask *retain.Ask, member *fanout.Member, sub *session.Subscription) {
	ask.Send(sub.Filter, &retainedReceiver{link: l, sub: sub}, l.door.fanout.Epoch(member, sub))
}

// subscribed tells whether the client has a subscription to a filter.
func (l *link) subscribed(filter string) bool {
	state := l.term.Lock()
	if state == nil {
		return false
	}
	defer l.term.Unlock()
	return state.Subscribed(filter)
}
