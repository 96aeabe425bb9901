package mqtt

import (
	"errors"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// QoS 2, both ways (MQTT 5.0, section 4.3.3). What a client sends: the packet ids that it has sent and not released are
// stored in the unit of the messages, so a PUBLISH that comes again is known. What it is sent: that is stored before
// the packet leaves, and is kept aside until then.

// arrives notes the packet id of a PUBLISH with QoS 2. Again tells that its message came before: then it does not go to
// the log once more, and its PUBREC is seen to [MQTT-4.3.3-10]. Once the id is released it stands for another message
// [MQTT-4.3.3-12]. Errors: those of flush; of an acknowledgement too many.
func (l *link) arrives(t *turn, id uint16) (again bool, err error) {
	if t.frees(id) { // in a unit before the one that takes it
		if err := l.flush(t); err != nil {
			return false, err
		}
	}
	before, ok := l.arrival(id)
	if !ok {
		return false, errEnded
	}
	if before == session.NotReceived {
		return false, nil
	}
	if err := l.flush(t); err != nil { // acknowledgements leave in the order of the packets
		return true, err
	}
	t.received[2]++
	err = l.acknowledgeAgain(id)
	l.wire.push()
	return true, err
}

// arrival makes a packet id pending, if nothing is known of it, and tells what was.
func (l *link) arrival(id uint16) (before session.Arrival, ok bool) {
	state := l.term.Lock()
	if state == nil {
		return 0, false
	}
	defer l.term.Unlock()
	return state.In.Add(id), true
}

// acknowledgeAgain sends the PUBREC of a message that came before, now or when it is stored.
func (l *link) acknowledgeAgain(id uint16) error {
	state := l.term.Lock()
	if state == nil {
		return errEnded
	}
	defer l.term.Unlock()
	before := state.In.Of(id)
	if before == session.Pending {
		l.term.Await(id)
	}
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	acks := &l.agreed.Acks
	if err := acks.ExpectAgain(id); err != nil {
		return err
	}
	if before != session.Pending {
		l.decideLocked(id, packet.Success)
	}
	return nil
}

// decideLocked decides the PUBREC of a message that came again. It needs the lock of the wire.
func (l *link) decideLocked(id uint16, reason packet.ReasonCode) {
	acks := &l.agreed.Acks
	if l.wire.mu.closed {
		acks.Decide(id, reason, nil)
		return
	}
	l.wire.putLocked(acks.Decide(id, reason, l.wire.pendingLocked()))
}

// arrived implements roster.Holder: it is known what became of a message that came again.
func (l *link) arrived(id uint16, stored bool) {
	reason := packet.Success
	if !stored { // nobody was told why: it is sent again, and is a new one then
		reason = packet.ServerUnavailable
	}
	if l.decide(id, reason) {
		l.driver.disconnect(packet.ServerUnavailable)
	}
	l.wire.push()
}

func (l *link) decide(id uint16, reason packet.ReasonCode) (lost bool) {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.decideLocked(id, reason)
	return l.agreed.Acks.Lost()
}

// dismiss forgets packet ids: their messages do not go to the log [MQTT-4.3.3-9], or they are released, where that is
// not stored. They stand for new messages then.
func (l *link) dismiss(ids ...uint16) {
	if state := l.term.Lock(); state != nil {
		for _, id := range ids {
			state.In.Release(id)
		}
		l.term.Unlock()
	}
}

// pubrel takes a PUBREL: its packet id is free, once that is stored, also where its message has expired
// [MQTT-4.3.3-13]. One that nothing is open with is told so [MQTT-4.3.3-11].
func (l *link) pubrel(t *turn, p *packet.Pubrel) error {
	known, err := l.mayRelease(t, p.PacketID)
	if err != nil {
		return err
	}
	if known {
		s := t.next()
		s.id, s.kind, s.qos = p.PacketID, packet.PUBCOMP, 2
		t.freed.add(s.id)
		t.acks++
		t.exact = true
		if t.used == turnSlots {
			return l.flush(t)
		}
		return nil
	}
	if err := l.flush(t); err != nil {
		return err
	}
	t.others++
	err = l.answerInTurn(packet.PUBCOMP, p.PacketID, packet.PacketIDNotFound)
	l.wire.push()
	return err
}

// mayRelease tells whether something is open with a packet id that a unit may free. It stays so until that unit is
// appended: whoever takes the session over before goes on with it. A client may not wait for the PUBREC: then the
// message is on its way to the log, in a unit before the one that frees the id. Errors: those of flush.
func (l *link) mayRelease(t *turn, id uint16) (known bool, err error) {
	for {
		before, ok := l.received(id)
		if !ok {
			return false, errEnded
		}
		if t.used == 0 || before != session.Pending && !t.frees(id) {
			return before != session.NotReceived, nil
		}
		if err := l.flush(t); err != nil {
			return false, err
		}
	}
}

// received tells what is known of a packet id.
func (l *link) received(id uint16) (a session.Arrival, ok bool) {
	state := l.term.Lock()
	if state == nil {
		return 0, false
	}
	defer l.term.Unlock()
	return state.In.Of(id), true
}

// idSet has a bit for each packet id, which it shares with those that are 1,024 before or behind.
type idSet [16]uint64

func (s *idSet) add(id uint16) { s[id>>6&15] |= 1 << (id & 63) }

func (s *idSet) mayHave(id uint16) bool { return s[id>>6&15]>>(id&63)&1 != 0 }

// frees tells whether a PUBREL of the turn frees a packet id.
func (t *turn) frees(id uint16) bool {
	return t.freed.mayHave(id) && slices.ContainsFunc(t.slots[:t.used], func(s *slot) bool {
		return s.id == id && s.kind == packet.PUBCOMP
	})
}

// packetIDs notes in the turn which packet ids of QoS 2 arrived and which were released with some slots.
func (t *turn) packetIDs(slots []*slot) {
	t.arrived, t.released = t.arrived[:0], t.released[:0]
	for _, s := range slots {
		switch {
		case s.id == 0:
		case s.kind == packet.PUBREC:
			t.arrived = append(t.arrived, s.id)
		case s.kind == packet.PUBCOMP:
			t.released = append(t.released, s.id)
		}
	}
}

// appendUnit appends the unit of some slots, with what it says of packet ids of QoS 2. Errors: those of append.
func (l *link) appendUnit(t *turn, u *stream.Unit, ticket uint32) error {
	switch {
	case !t.exact:
		return l.append(u, func() error { return l.term.Append(l.door.log, u, ticket) })
	case len(u.Writes) == 0 && !l.lasts: // nothing to store
		l.dismiss(t.released...)
		l.answerNewest(len(t.released))
		return nil
	}
	return l.append(u, func() error { return l.term.AppendExact(l.door.log, u, ticket, t.arrived, t.released) })
}

// answerNewest decides the n newest acknowledgements.
func (l *link) answerNewest(n int) {
	l.wire.mu.Lock()
	if !l.wire.mu.closed {
		l.wire.putLocked(l.agreed.Acks.Answer(n, packet.Success, l.wire.pendingLocked()))
	}
	l.wire.mu.Unlock()
	l.wire.push()
}

// aside is packets that wait until the session is stored; it is under the lock of the wire.
type aside struct {
	b    []byte
	head int // bytes that have gone
}

func (a *aside) size() int { return len(a.b) - a.head }

// keepAsideLocked keeps a message until the session is stored; nil: there is no room. It needs the locks of the session
// and the wire.
func (l *link) keepAsideLocked(message []byte) []byte {
	s := l.seldomLocked()
	if s.aside.size()+l.wire.sizeLocked()+len(message) > l.door.opt.OutboxBytes && s.aside.size() > 0 {
		l.wire.starved.Store(true)
		return nil
	}
	return l.asideLocked(message)
}

// asideLocked keeps a packet aside, whatever room there is.
func (l *link) asideLocked(packet []byte) []byte {
	s := l.seldomLocked()
	from := len(s.aside.b)
	s.aside.b = append(s.aside.b, packet...)
	l.term.Save()
	return s.aside.b[from:]
}

// keptAside implements roster.Holder.
func (l *link) keptAside() int {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.out.seldom == nil {
		return 0
	}
	return l.out.seldom.aside.size()
}

// saved implements roster.Holder: what was kept aside goes out.
func (l *link) saved(n int, err error) {
	if err != nil {
		if !fault.Is(err, fault.Closed) && !errors.Is(err, errEnded) {
			l.driver.disconnect(packet.ServerUnavailable)
		}
		return
	}
	if l.letGo(n) {
		l.driver.pushLater()
	}
	l.unclogShares()
	if l.wire.starved.Load() {
		l.wakeDeliveries()
	}
}

// letGo moves the first bytes kept aside into the outbox. Queue tells that a pusher has to be told.
func (l *link) letGo(n int) (queue bool) {
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	a := &l.out.seldom.aside
	if !w.mu.closed && !w.mu.broken {
		w.putLocked(append(w.pendingLocked(), a.b[a.head:a.head+n]...))
		queue = !w.mu.queued
		w.mu.queued = true
	}
	switch a.head += n; {
	case a.head == len(a.b) && cap(a.b) > bufferBytes:
		*a = aside{}
	case a.head == len(a.b):
		a.b, a.head = a.b[:0], 0
	case a.head > len(a.b)/2:
		a.b = a.b[:copy(a.b, a.b[a.head:])]
		a.head = 0
	}
	return queue
}
