package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/limit"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/groups"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/retain"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// link is a connection's side of its session: what is asked of the session by packets, and what the session has to say
// in packets. The session itself is on its seat; term is our time on it.
//
// What CONNECT brought is set once, before anybody else knows the link. agreed's aliases, noLocal and turn belong to
// the driver. What goes out through the wire, and so is under its lock: agreed.Acks and all of out.
type link struct {
	door    *Door
	wire    *wire
	account *limit.Account
	driver  linkDriver

	principal Principal
	agreed    *session.Link
	term      roster.Term
	member    atomic.Pointer[fanout.Member] // nil before the first SUBSCRIBE
	turn      *stream.Turn                  // our place in the line for the log, once it was crowded
	ended     sync.Once
	shares    atomic.Pointer[shares] // nil before the first shared subscription
	answers   answers
	again     again                      // what is sent again
	drops     atomic.Pointer[dropCounts] // nil: none was
	since     int64                      // of the CONNECT, milliseconds since 1970
	version   packet.Version             // 0 before CONNECT
	noLocal   bool                       // some subscription has No Local
	bridge    bool                       // of a Mosquitto that speaks MQTT 3
	lasts     bool                       // the session outlives its connection, unless a DISCONNECT says otherwise
	keepsAll  bool                       // messages of QoS 0, too, are kept while the client is away

	out struct {
		sent    sent     // since the last Flush, for the metrics
		bare    int32    // units without acknowledgements that wait for the log
		seldom  *seldom  // nil: none of it was needed
		aliases *aliases // nil: the client takes none
	}
}

// sent is how many messages went out, by QoS, and the bytes of their payloads.
type sent struct {
	messages [session.QoSLevels]uint32
	bytes    uint32
}

// count counts one message more.
func (s *sent) count(d *fanout.Delivery) {
	s.messages[d.QoS]++
	s.bytes += uint32(d.Payload)
}

// seldom is what few connections ever need of what is under the lock of the wire.
type seldom struct {
	aside    aside             // until the session is stored
	requests []*retain.Request // retained messages that were told Later
	replays  []*replay         // subscriptions that begin in the past; not changed in place
	slow     slowness
	settled  chan struct{} // closed when no PUBLISH waits for its acknowledgement
	stored   chan struct{} // closed when no unit without acknowledgements waits for the log
}

// seldomLocked needs the lock of the wire.
func (l *link) seldomLocked() *seldom {
	if l.out.seldom == nil {
		l.out.seldom = &seldom{}
	}
	return l.out.seldom
}

// linkDriver is who drives the connection of a link.
type linkDriver interface {
	roster.Holder
	fanout.Sink
	groups.Link
	// deliverFor is Deliver for a subscription that begins in the past, and behindFor Behind.
	deliverFor(by *replay, r *fanout.Run) fanout.Verdict
	behindFor(r *replay, by int)
	// mayWait tells whether the goroutine of the driver may wait for the log.
	mayWait() bool
	// expectRoom says whether messages wait for room in the log, which logRoomy is told of.
	expectRoom(yes bool)
	logRoomy()
	// pushLater has the outbox written by another goroutine.
	pushLater()
	disconnect(reason packet.ReasonCode)
	rescue()
}

func (l *link) init(d *Door, w *wire, a *limit.Account, by linkDriver) {
	l.door, l.wire, l.account, l.driver = d, w, a, by
}

// begin takes the seat of the client. Another connection that has it loses it here: it is over before this one begins
// [MQTT-3.1.4-3], and nobody waits for it. A session that lasts is stored before the client is told. Errors: those of
// the roster and the log.
func (l *link) begin(who Principal, o *session.Opening) (present bool, err error) {
	d := l.door
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.ConnectTimeout)
	defer cancel()
	l.principal, l.agreed, l.version, l.lasts = who, o.Link, o.Link.Version(), o.Expiry > 0
	l.keepsAll, l.since = l.lasts && d.opt.QueueQoS0, d.opt.Clock().UnixMilli()
	l.out.aliases = newAliases(min(int(o.Link.TakesAliases()), d.opt.TopicAliases))
	turn := d.welcomes.begin()
	got, err := d.seats.Take(o, l.driver, &l.term) // from here on others know the link
	d.welcomes.end(turn)
	if err != nil {
		l.version = 0
		return false, err
	}
	if d.traces.some.Load() {
		l.wire.tapInto(d.traces.of(who.ClientID), l.version)
	}
	l.noteBegin(got.Present, got.Before != nil)
	if got.Before != nil {
		d.metrics.takeovers.Inc()
		l.tellTakeover(got.Before)
		got.Before.Displaced()
	}
	if err := got.Settle(ctx); err != nil {
		d.opt.Logger.Warn("a will was not published", "client", fault.Text(who.ClientID), "error", err)
	}
	return got.Present, l.term.Store(ctx)
}

// close puts a DISCONNECT last into the outbox, if the reason is a failure and the client knows it [MQTT-4.13.1-1].
// From here on no delivery and no acknowledgement goes out. The cause may be nil.
func (l *link) close(reason packet.ReasonCode, cause error) {
	var last []byte
	if reason.Failed() && l.version == packet.V5 { // [MQTT-3.14.0-1]
		last = l.lastWords(reason, cause).AppendTo(nil, packet.V5)
	}
	l.term.Cut()
	l.wire.shut(last)
}

// lastWords is our DISCONNECT. One that shuts down names the server to go to, if there is one.
func (l *link) lastWords(reason packet.ReasonCode, cause error) *packet.Disconnect {
	d, takes := l.door, l.agreed.MaxPacket()
	p := &packet.Disconnect{Reason: reason.InDisconnect()}
	if instead := d.opt.insteadOf(reason); instead != reason {
		p.Reason = instead
		if d.refer(instead, &p.Props); p.Size(packet.V5) > takes {
			p = &packet.Disconnect{Reason: reason.InDisconnect()}
		}
	}
	if referTo(cause, &p.Props) && p.Size(packet.V5) > takes {
		p = &packet.Disconnect{Reason: packet.ServerShuttingDown}
	}
	explain(p, &p.Props, cause, takes, l.agreed.WantsReasons())
	return p
}

// end ends what the connection has to do with its session: subscriptions are no longer served, and unless the session
// lasts it is over.
func (l *link) end() {
	l.ended.Do(func() {
		l.term.Cut()
		l.wire.shutWith(nil)
		l.again.wake()
		l.door.status.leave(l)
		l.takeRequests()
		l.leaveFanout()
		l.leaveShares()
	})
	left := l.term.Leave()
	if left == nil {
		return // another has the seat
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.door.opt.ConnectTimeout)
	defer cancel()
	if err := left.Settle(ctx); err != nil {
		l.door.opt.Logger.Warn("what a session left was not stored",
			"client", fault.Text(l.principal.ClientID), "error", err)
	}
}

// displaced ends the connection for another that took the seat over.
func (l *link) displaced() {
	l.close(packet.SessionTakenOver, nil)
	l.end()
	l.driver.disconnect(packet.SessionTakenOver)
}

// behind implements fanout.Sink.
func (l *link) behind(by int) {
	state := l.term.Lock()
	if state == nil {
		return
	}
	defer l.term.Unlock()
	if state.Behind(by, l.term.Last()) {
		l.term.Changed()
	}
	if by < 0 && state.BehindIn() == 0 {
		l.inStep()
	}
}

// disconnect takes a DISCONNECT: the connection ends without a word.
func (l *link) disconnect(p *packet.Disconnect) error {
	state := l.term.Lock()
	if state == nil {
		return errEnded
	}
	defer l.term.Unlock()
	if err := state.Disconnect(p); err != nil {
		return err
	}
	return errDisconnect
}

// answerWith puts a packet of any size into the outbox. One that is larger than the client takes ends the connection
// instead [MQTT-3.1.2-24].
func (l *link) answerWith(p packet.Packet) error {
	if err := tooLarge(p, l.version, l.agreed.MaxPacket()); err != nil {
		return err
	}
	l.wire.put(func(b []byte) []byte { return p.AppendTo(b, l.version) })
	l.door.metrics.othersOut.Inc()
	return nil
}

// acknowledged gathers an acknowledgement of the client.
func (l *link) acknowledged(t *turn, a acknowledged) error {
	if t.acknowledged = append(t.acknowledged, a); len(t.acknowledged) < turnSlots {
		return nil
	}
	return l.flushAcknowledged(t)
}

// flushAcknowledged tells the session of what the client acknowledged in a turn. What is not in flight means nothing.
// Starved of the turn tells then that deliveries go on with more of them only. Errors: *packet.Error for an
// acknowledgement that belongs to another QoS.
func (l *link) flushAcknowledged(t *turn) error {
	if len(t.acknowledged) == 0 {
		return nil
	}
	defer func() { t.acknowledged = t.acknowledged[:0] }()
	state := l.term.Lock()
	if state == nil {
		return nil
	}
	rel, roomy, err := l.take(state, t)
	l.sharesDone(t.shared)
	t.shared = t.shared[:0]
	if len(rel) > 0 {
		l.wire.put(func(b []byte) []byte { return append(b, rel...) })
		l.door.metrics.othersOut.Add(float64(len(rel) / pubrelBytes))
	}
	if roomy && l.wire.unstarve() {
		l.wakeStarved()
	}
	t.starved = l.wire.starved.Load()
	l.again.wake()
	return err
}

// pubrelBytes is the size of a PUBREL without a reason.
const pubrelBytes = 4

// take gives acknowledgements to the session, which it unlocks. Rel is PUBREL packets that can be sent now.
func (l *link) take(state *session.State, t *turn) (rel []byte, roomy bool, err error) {
	defer l.term.Unlock()
	for i := range t.acknowledged {
		a := &t.acknowledged[i]
		var from session.Place
		var v session.Verdict
		switch a.kind {
		case packet.PUBREC:
			if from, v = state.Out.Received(a.id, a.failed); !a.failed && v != session.WrongKind {
				rel = l.release(state, rel, a.id, v)
			}
		case packet.PUBCOMP:
			from, v = state.Out.Complete(a.id)
		default:
			from, v = state.Out.Ack(a.id)
		}
		switch {
		case v == session.Taken && from.Share > 0:
			t.shared = append(t.shared, from)
		case v == session.Taken && state.Touched(from):
			l.term.Changed()
		}
		if v == session.WrongKind && err == nil {
			err = &packet.Error{Reason: packet.ProtocolError,
				Detail: fmt.Sprintf("%s for a message of another QoS", a.kind)}
		}
	}
	return rel, state.Out.Roomy(), err
}

// release appends the PUBREL of a message that the client has, or keeps it aside until that is stored.
func (l *link) release(state *session.State, rel []byte, id uint16, v session.Verdict) []byte {
	switch {
	case v == session.Unknown:
		return packet.AppendPubrel(rel, l.version, id, packet.PacketIDNotFound)
	case !state.Lasts():
		return packet.AppendPubrel(rel, l.version, id, packet.Success)
	}
	var b [8]byte
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.asideLocked(packet.AppendPubrel(b[:0], l.version, id, packet.Success))
	return rel
}

// answerInTurn acknowledges a packet that does not go to the log, behind the acknowledgements that come before it.
func (l *link) answerInTurn(kind packet.Type, id uint16, reason packet.ReasonCode) error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	acks := &l.agreed.Acks
	if kind == packet.PUBCOMP && acks.Has(id) {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "PUBREL for a message of QoS 1"}
	}
	if err := acks.Expect(kind, id); err != nil {
		return err
	}
	if !l.wire.mu.closed {
		l.wire.putLocked(acks.Answer(1, reason, l.wire.pendingLocked()))
	}
	if acks.Lost() {
		return &packet.Error{Reason: packet.ServerUnavailable, Detail: "a message was not stored"}
	}
	l.door.metrics.othersOut.Inc()
	return nil
}

// awaitSettled waits until every PUBLISH of the client has its acknowledgement in the outbox.
func (l *link) awaitSettled(most time.Duration) {
	if settled := l.untilSettled(); settled != nil {
		await(settled, most)
	}
}

// untilSettled is closed when no PUBLISH waits for the log; nil: none does.
func (l *link) untilSettled() <-chan struct{} {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.agreed == nil || l.agreed.Acks.Waiting() == 0 {
		return nil
	}
	s := l.seldomLocked()
	if s.settled == nil {
		s.settled = make(chan struct{})
	}
	return s.settled
}

// awaitStored waits until what the client published before, and what is retained of others, is stored or refused: then
// whatever it subscribes to is younger. A log that takes too long is not waited for.
func (l *link) awaitStored() {
	most := l.door.opt.CloseTimeout
	for _, stored := range [...]<-chan struct{}{l.untilSettled(), l.untilBareStored(), l.door.retained.Settled()} {
		if stored != nil {
			await(stored, most)
		}
	}
}

// untilBareStored is closed when no unit without acknowledgements waits for the log; nil: none does.
func (l *link) untilBareStored() <-chan struct{} {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.out.bare == 0 {
		return nil
	}
	s := l.seldomLocked()
	if s.stored == nil {
		s.stored = make(chan struct{})
	}
	return s.stored
}

// bareUnits counts units without acknowledgements that wait for the log.
func (l *link) bareUnits(more int32) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.out.bare += more; l.out.bare == 0 && l.out.seldom != nil {
		signal(&l.out.seldom.stored)
	}
}

// append has try give a unit to the log. Errors: errCrowded when it has no room and the driver must not wait, those of
// Term.Append.
func (l *link) append(u *stream.Unit, try func() error) error {
	u.Turn = l.turn
	if l.turn != nil {
		l.driver.expectRoom(true)
	}
	err := try()
	if errors.Is(err, stream.ErrCrowded) {
		return l.appendLater(u, try)
	}
	if l.turn != nil {
		l.driver.expectRoom(false)
	}
	return err
}

// appendLater waits in the log's line for room, or has the driver told when there is.
func (l *link) appendLater(u *stream.Unit, try func() error) error {
	switch {
	case l.driver.mayWait():
		return stream.WaitForRoom(context.Background(), &u.Turn, try)
	case l.turn != nil:
		return errCrowded
	}
	l.turn = &stream.Turn{Roomy: l.driver.logRoomy}
	u.Turn = l.turn
	l.driver.expectRoom(true)
	err := try()
	if errors.Is(err, stream.ErrCrowded) {
		return errCrowded
	}
	l.driver.expectRoom(false)
	return err
}
