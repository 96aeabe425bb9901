package mqtt

import (
	"context"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/members"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// deliver puts PUBLISH packets into the outbox. QoS 0 is dropped when the outbox is full, what is above it never: then
// the session reads the log later.
// By is the subscription that they come by, if it begins in the past.
func (l *link) deliver(r *fanout.Run, by *replay) fanout.Verdict {
	if d := r.Next(); d != nil && !d.Answer && d.From.Share == 0 && l.answers.holdBack() {
		return fanout.Later
	}
	r.Judge(l.judge)
	var pushed *fanout.Delivery // the outbox was pushed for it
	for r.Next() != nil {
		verdict, push := l.enqueue(r, by, pushed)
		if verdict != fanout.Taken {
			return verdict
		}
		if push {
			pushed = r.Next()
			l.wire.push()
		}
	}
	return fanout.Taken
}

// judge is what the client may see of a message. nil: nothing, or it takes none of its size: it is dropped as if it
// were acknowledged [MQTT-3.1.2-25].
func (l *link) judge(d *fanout.Delivery) *fanout.Delivery {
	why := dropDenied
	switch {
	case d.From.Share == 0 && len(d.Frame) > l.agreed.MaxPacket():
		why = dropTooLarge
	case d.From.Share > 0, l.door.may(&l.principal, rule.Read, d.Topic): // its group has asked (May)
		l.tellRead(d)
		if set := l.door.masks(&l.principal, d.Topic); set != nil {
			return l.masked(d, set)
		}
		return d
	case l.droppedFor(dropDenied) == 0: // the end of the connection tells how many there were
		l.door.tellRefused(&l.principal, rule.Read, audit.KindName, string(d.Topic), 0)
	}
	l.drop(why)
	return nil
}

// enqueue puts the rest of a run into the outbox. Push tells that it is to be pushed before it goes on: much waits, or
// it is full. If there is no room for pushed by now, it is dropped. The seat is locked before the wire.
func (l *link) enqueue(r *fanout.Run, by *replay, pushed *fanout.Delivery) (v fanout.Verdict, push bool) {
	var state *session.State
	if r.Tracked() || l.keepsAll || by != nil {
		if state = l.term.Lock(); state == nil {
			return fanout.Gone, false
		}
		defer l.term.Unlock()
	}
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed || w.mu.broken {
		if state != nil {
			l.term.CutLocked(state)
		}
		return fanout.Gone, false
	}
	for d := r.Next(); d != nil; d = r.Next() {
		// One that is larger than the bound by itself is not dropped because another one is on its way.
		waits := d.QoS > 0 || d.CatchUp || len(d.Frame) > l.door.opt.OutboxBytes
		switch {
		case l.putLocked(d, waits, state, by):
		case waits:
			l.seldomLocked().slow.waits(l.door.uptime())
			return fanout.Later, false
		case d != pushed && !w.stalled.Load(): // much may have come in one run that the client would take at once
			return fanout.Taken, true
		default:
			l.drop(dropOutbox)
			l.seldomLocked().slow.drops(l.door.uptime())
		}
		if r.Take(); w.ripeLocked() {
			return fanout.Taken, true
		}
	}
	return fanout.Taken, false
}

// putLocked puts one PUBLISH into the outbox, if there is room for it and in the window. The session is locked if the
// message counts for it.
func (l *link) putLocked(d *fanout.Delivery, waits bool, state *session.State, by *replay) bool {
	w := l.wire
	if d.QoS > 0 && state.Out.Full() { // [MQTT-3.3.4-10] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
		w.starved.Store(true)
		return false
	}
	var b []byte
	out, alias, aside := d, uint16(0), d.QoS == 2 && state.Lasts()
	aliased := l.out.aliases != nil && !aside // what is kept aside goes out later than what comes after it
	if aliased {
		out, alias = l.out.aliases.setting(d, l.agreed.MaxPacket(), l.account.Fits)
	}
	if aside {
		b = l.keepAsideLocked(d.Frame)
	} else {
		b = w.takeLocked(out.Frame, waits)
	}
	if b == nil {
		return false
	}
	if d.QoS > 0 {
		id, _ := state.Out.Send(d.From, d.QoS)
		b[out.ID], b[out.ID+1] = byte(id>>8), byte(id)
	}
	if aliased {
		l.aliasLocked(b, d, alias)
	}
	if state != nil && l.took(d, state, by) {
		l.term.Changed()
	}
	l.out.sent.count(d)
	return true
}

// aliasLocked notes an alias that the PUBLISH at the end of the outbox sets; else it has it say that of its topic, if
// there is one.
func (l *link) aliasLocked(b []byte, d *fanout.Delivery, alias uint16) {
	if alias > 0 {
		l.account.Add(int64(l.out.aliases.commit(alias, d.Topic)))
		return
	}
	l.wire.dropLocked(len(b) - l.out.aliases.replace(b, d))
}

// took tells the session that it has a message. A retained one that answers a SUBSCRIBE moves no place, nor does one
// of a group.
func (l *link) took(d *fanout.Delivery, state *session.State, by *replay) (changed bool) {
	switch {
	case d.From.Share > 0:
		return false // its group keeps the place
	case by != nil:
		changed = state.ReplayTook(by.sub.Replay, d.From)
		return d.QoS > 0 && state.Touched(d.From) || changed
	case d.Answer:
		return d.QoS > 0 && state.Touched(d.From)
	case d.QoS > 0 || l.keepsAll:
		return state.Took(d.From)
	}
	return false
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
	went := l.takeSent()
	l.wire.push()
	l.door.metrics.countSent(&went)
}

func (l *link) takeSent() (s sent) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	s, l.out.sent = l.out.sent, s
	return s
}

// wakeDeliveries tells those who were told Later that there is room, if there is in the window too.
func (l *link) wakeDeliveries() {
	l.again.wake()
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
	l.wakeMembers()
	l.wakeShares()
	for _, r := range l.takeRequests() {
		l.door.retained.Resume(r)
	}
}

func (l *link) takeRequests() (requests []*retain.Request) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if s := l.out.seldom; s != nil {
		requests, s.requests = s.requests, nil
	}
	return requests
}

// retainedReceiver sends the retained messages of one subscription.
type retainedReceiver struct {
	link     *link
	sub      *session.Subscription
	message  fanout.Message
	delivery fanout.Delivery
	memory   []byte // of its frame
	run      fanout.Run
}

var _ retain.Receiver = (*retainedReceiver)(nil)

// Retained implements retain.Receiver. The RETAIN flag is always set [MQTT-3.3.1-8 of 3.1.1].
func (r *retainedReceiver) Retained(q *retain.Request, m *hinge.Message, at record.Offset) retain.Outcome {
	door := r.link.door
	if !r.link.subscribed(r.sub.Filter) { // [MQTT-3.10.4-2]
		return retain.Stop
	}
	if !r.message.Set(m, door.opt.Judge(m.Timestamp, door.opt.Clock())) {
		return retain.Sent // expired
	}
	form := fanout.Form{Version: r.link.version, QoS: min(r.message.QoS(), r.sub.QoS), Retain: true}
	if r.sub.ID > 0 {
		form.IDs = []uint32{r.sub.ID}
	}
	d := &r.delivery
	r.memory = r.message.Deliver(d, form, r.memory[:0])
	d.CatchUp, d.Answer = true, true
	d.From = session.Place{Partition: uint32(door.retained.Partition()), Offset: int64(at)}
	switch r.link.driver.Deliver(r.run.Offer(d)) {
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
		s := l.seldomLocked()
		s.requests = append(s.requests, q)
	}
	return starved
}

// RetainedFlush implements retain.Receiver.
func (r *retainedReceiver) RetainedFlush() { r.link.driver.Flush() }

// RetainedThrough implements retain.Receiver.
func (r *retainedReceiver) RetainedThrough() { r.link.answered() }

// RetainedReady implements retain.Receiver.
func (r *retainedReceiver) RetainedReady(q *retain.Request) bool { return !r.link.remember(q) }

// RetainedRoom implements retain.Receiver.
func (r *retainedReceiver) RetainedRoom(n int64) bool {
	if n > 0 && !r.link.account.FitsOne(n) {
		return false
	}
	r.link.account.Add(n)
	return true
}

// answered is told that retained messages which live ones wait for are on their way.
func (l *link) answered() {
	if l.answers.end() {
		l.wakeMembers()
	}
}

// subscribe puts subscriptions in force, asks for what is retained, answers, and has it sent then: everything that is
// acknowledged after the SUBACK comes, live or retained. What came before the SUBSCRIBE, on this connection or with
// RETAIN on any, is older than the subscriptions, and comes before what is newer.
//
// SUBACK has no user properties [MQTT-3.9.2-2], and a reason string only where it is wanted and fits [MQTT-3.9.2-1].
//
// A SUBSCRIBE without a packet id is ours, and has no answer.
func (l *link) subscribe(t *turn, p *packet.Subscribe) error {
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		if !one.Reason.Failed() && l.door.opt.Sharding != nil && isShared(one.Filter) {
			one.QoS = min(one.QoS, members.MaxQoS)
		}
		if !one.Reason.Failed() && !l.door.maySubscribe(&l.principal, string(session.Served(one.Filter))) {
			one.Reason = packet.NotAuthorized
			l.door.tellRefused(&l.principal, rule.Read, audit.KindFilter, string(one.Filter), 0)
		}
	}
	member := l.join()
	l.awaitStored()
	state := l.term.Lock()
	if state == nil {
		return errEnded
	}
	before := state.Held()
	t.grants = state.Subscribe(p, t.unixMs, l.roomForFilters(before), t.grants[:0])
	l.account.Add(int64(state.Held() - before))
	l.term.Unlock()
	defer clear(t.grants)
	l.answers.begin()
	defer l.answered()
	ask := l.door.retained.Begin()
	defer ask.End()
	var why error
	// [MQTT-2.2.1-6] [MQTT-3.8.4-2]
	suback := packet.Suback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(t.grants))}
	for i := range t.grants {
		g := &t.grants[i]
		suback.Reasons = append(suback.Reasons, g.Reason)
		switch {
		case g.Sub == nil:
		case g.Sub.Shared():
			l.joinShare(g.Sub, g.Old)
		default:
			l.noLocal = l.noLocal || g.Sub.NoLocal
			if err := l.serve(member, g); err != nil {
				return err
			}
		}
		if g.Err != nil {
			why = &packet.Error{Reason: g.Reason, Detail: g.Err.Error()}
		}
	}
	if why != nil { // it fits or not when all reason codes are there
		explain(&suback, &suback.Props, why, l.agreed.MaxPacket(), l.agreed.TakesReasons())
	}
	if err := l.storeSubscriptions(t.grants); err != nil {
		return err
	}
	for i := range t.grants { // before SUBACK: what is published by who has seen it only comes live
		if g := &t.grants[i]; g.Sub != nil && g.Retained {
			l.askRetained(ask, member, g.Sub)
		}
	}
	if p.PacketID > 0 {
		if err := l.answerWith(&suback); err != nil { // [MQTT-3.8.4-1]
			return err
		}
	}
	l.watchStatus(t.grants)
	return nil
}

// bridgeSubscriptions gives the subscriptions of a bridge the options that MQTT 3 has no bits for, and that the bridge
// of MQTT 5 asks for: nothing that it published comes back, or its devices would get it twice, and RETAIN is as it was
// published, or what is retained here would not be there. A shared subscription and one that begins in the past cannot
// have No Local.
func (l *link) bridgeSubscriptions(p *packet.Subscribe) {
	if !l.bridge {
		return
	}
	for i := range p.Subscriptions {
		one := &p.Subscriptions[i]
		one.NoLocal, one.RetainAsPublished = !isDollar(one.Filter), true
	}
}

// maxFilterBytes is how much the filters of one client may make us hold.
const maxFilterBytes = 16 << 20

// roomForFilters is how much filters may add to what they make us hold.
func (l *link) roomForFilters(held int) int {
	return int(min(int64(maxFilterBytes-held), l.door.budget.Share()-l.account.Held()))
}

// unsubscribe ends subscriptions. Nothing comes by them after the UNSUBACK but what was on its way, which is
// completed [MQTT-3.10.4-3]. UNSUBACK has neither a reason string nor user properties [MQTT-3.11.2-1] [MQTT-3.11.2-2].
func (l *link) unsubscribe(p *packet.Unsubscribe) error {
	// [MQTT-3.10.4-5]
	unsuback := packet.Unsuback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, 0, len(p.Filters))}
	l.rewriteFilters(p.Filters)
	var shared []*session.Subscription
	for _, filter := range p.Filters { // [MQTT-3.10.4-6] [MQTT-3.11.3-1]
		state := l.term.Lock()
		if state == nil {
			l.leaveShare(shared...)
			return errEnded
		}
		before := state.Held()
		sub := state.Unsubscribe(filter)
		freed := before - state.Held()
		l.term.Unlock()
		l.account.Add(-int64(freed))
		reason := packet.NoSubscriptionExisted // [MQTT-3.11.3-2]
		switch {
		case sub == nil:
		case sub.Shared():
			shared = append(shared, sub)
			reason = packet.Success
		default:
			l.stopServing(sub)
			reason = packet.Success
		}
		unsuback.Reasons = append(unsuback.Reasons, reason)
	}
	err := l.storeFilters(nil, p.Filters)
	l.leaveShare(shared...) // behind that: no group forgets what it knows while the log has a subscription to it
	if err != nil {
		return err
	}
	return l.answerWith(&unsuback) // [MQTT-3.10.4-4]
}

// storeSubscriptions stores the subscriptions that were granted, if the session lasts.
func (l *link) storeSubscriptions(grants []session.Grant) error {
	var made []*session.Subscription
	for i := range grants {
		if g := &grants[i]; g.Sub != nil {
			made = append(made, g.Sub)
		}
	}
	return l.storeFilters(made, nil)
}

// storeFilters stores subscriptions that were made, and that those of other filters are gone, if the session lasts. If
// the log does not take that, the client must not take them for kept: its connection ends, and it comes again. Where
// nodes share sessions the groups know of all sessions.
func (l *link) storeFilters(made []*session.Subscription, gone [][]byte) error {
	if !l.lasts && l.door.members == nil || len(made)+len(gone) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.door.opt.ConnectTimeout)
	defer cancel()
	news, enough := context.WithTimeout(ctx, l.door.opt.CloseTimeout) // a partition may be one that cannot be read now
	defer enough()
	filters := make([]string, len(gone))
	for i := range gone {
		filters[i] = string(gone[i])
	}
	reached := make(map[*session.Subscription][]session.Place) // by those that are shared
	err := l.settleShares(ctx, made)
	if err == nil && l.lasts {
		err = l.term.StoreFilters(ctx, made, filters, func(visit func(stream.PartitionID, record.Offset)) {
			for _, sub := range made {
				switch filter := string(session.Served([]byte(sub.Filter))); {
				case sub.Replay != nil: // it has places of its own
				case sub.Shared():
					l.door.fanout.ReachedFor(news, filter, func(p stream.PartitionID, at record.Offset) {
						reached[sub] = append(reached[sub], session.Place{Partition: uint32(p), Offset: int64(at)})
						visit(p, at)
					})
				default:
					l.door.fanout.ReachedFor(news, filter, visit)
				}
			}
		})
	}
	if err != nil {
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: "a subscription could not be stored: " + err.Error()}
	}
	l.keepShares(made, reached)
	return nil
}

// askRetained asks for the retained messages of a subscription. They flow beside everything else and wait, however
// many they are, for room in the outbox and in the window.
func (l *link) askRetained(ask *retain.Ask, member *fanout.Member, sub *session.Subscription) {
	l.answers.begin()
	notBy := ""
	if sub.NoLocal { // [MQTT-3.8.3-3]
		notBy = l.principal.ClientID
	}
	ask.Send(sub.Filter, notBy, &retainedReceiver{link: l, sub: sub}, l.door.fanout.Epoch(member, sub))
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
