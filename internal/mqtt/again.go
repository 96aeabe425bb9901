package mqtt

import (
	"sync"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
	"github.com/firthmq/firth/internal/mqtt/sys"
	"github.com/firthmq/firth/internal/names"
)

// again is what was in flight when the last connection of a session ended. It is sent again, in the order in which it
// was sent, before anything new [MQTT-4.4.0-1] [MQTT-4.6.0-1].
type again struct {
	mu struct {
		sync.Mutex
		open chan struct{} // gets a token when there may be room; nil: nobody waits
	}
}

// wake lets who sends again look for room.
func (a *again) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.open == nil {
		return
	}
	select {
	case a.mu.open <- struct{}{}:
	default: // a token is there
	}
}

// begin gives the channel of tokens.
func (a *again) begin() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.open = make(chan struct{}, 1)
	return a.mu.open
}

func (a *again) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.open = nil
}

// goOn lets a session that was there go on: what was in flight goes out again, then what the client missed, and then
// what is new. A goroutine reads what is sent again from the log, as the client takes it.
func (l *link) goOn() {
	left := l.flights()
	turn := l.door.welcomes.begin()
	l.comeBack()
	l.door.welcomes.end(turn)
	if len(left) > 0 {
		go l.sendAgain(left)
	}
}

// flights is what is in flight, in the order of sending.
func (l *link) flights() (all []session.Flight) {
	state := l.term.Lock()
	if state == nil {
		return nil
	}
	defer l.term.Unlock()
	for f := range state.Out.Flights {
		all = append(all, f)
	}
	return all
}

// comeBack has the subscriptions of a session served again, from where it stands.
func (l *link) comeBack() {
	state := l.term.Lock()
	if state == nil {
		return
	}
	subs := make([]*session.Subscription, 0, state.Subscriptions())
	var replays []*session.Subscription
	watches := false
	for sub := range state.All {
		if sub.Replay != nil {
			replays = append(replays, sub)
			continue
		}
		subs = append(subs, sub)
		watches = watches || sys.Below(sub.Filter)
		l.noLocal = l.noLocal || sub.NoLocal
	}
	held := state.Held()
	l.term.Unlock()
	l.account.Add(int64(held))
	l.door.fanout.Return(l.join(), fanout.Returning{
		Subs: l.splitShares(subs), At: l.term.Stands, Since: l.term.Since, QoS0: l.keepsAll,
	})
	l.behind(-1) // as Connect began it
	for _, sub := range replays {
		if err := l.beginReplay(sub); err != nil {
			l.unreadable(err)
		}
	}
	if watches {
		l.door.status.watch(l, statusAsk{link: l})
	}
}

// join makes the session a member of the fanout, if it is none.
func (l *link) join() *fanout.Member {
	if l.member.Load() == nil {
		l.member.CompareAndSwap(nil, l.door.fanout.Join(l.driver, l.version, l.principal.ClientID))
	}
	return l.member.Load()
}

// sendAgain sends what is in flight again, as the client takes it. Nothing new above QoS 0 goes out before it has
// (session.Outbound).
func (l *link) sendAgain(left []session.Flight) {
	defer l.driver.rescue()
	room := l.again.begin()
	defer l.again.end()
	var sent []fanout.Sent
	for _, f := range left {
		if !f.Released {
			sent = append(sent, fanout.Sent{From: f.From, QoS: f.QoS})
		}
	}
	reader := l.door.fanout.Again(sent, l.version, l.matching)
	for i := range left {
		var d fanout.Delivery
		if f := &left[i]; !f.Released && !reader.Next(&d) {
			l.unreadable(reader.Err())
			return
		}
		if !l.repeat(&left[i], &d, room) {
			return
		}
	}
	l.wire.push()
	l.wakeDeliveries()
}

// unreadable ends a connection to which it cannot be sent what is in flight, for now: the client comes again.
func (l *link) unreadable(err error) {
	l.door.opt.Logger.Warn("what is in flight cannot be read", "client", fault.Text(l.principal.ClientID), "error", err)
	l.driver.disconnect(packet.ServerUnavailable)
}

// matching tells how the session's subscriptions that match a message want it.
func (l *link) matching(m *hinge.Message) (w fanout.Wants) {
	state := l.term.Lock()
	if state == nil {
		return w
	}
	defer l.term.Unlock()
	for sub := range state.All {
		if sub.NoLocal && m.PublishedBy(l.principal.ClientID) {
			continue // it came by another
		}
		if names.Match(session.Served([]byte(sub.Filter)), m.Topic) {
			w.AsPublished, w.Where = w.AsPublished || sub.RetainAsPublished, w.Where || sub.Where
			if sub.ID > 0 {
				w.IDs = append(w.IDs, sub.ID)
			}
		}
	}
	return w
}

// repeat puts a message in flight into the outbox once more, when there is room. False: the connection has ended.
func (l *link) repeat(f *session.Flight, d *fanout.Delivery, room <-chan struct{}) bool {
	gone := !f.Released && len(d.Frame) == 0
	if !f.Released && !gone {
		if seen := l.judge(d); seen != nil {
			d = seen
		} else {
			gone = true
		}
	}
	for {
		done, ended := l.tryRepeat(f, d, gone)
		if done || ended {
			return !ended
		}
		l.wire.push()
		<-room
	}
}

// tryRepeat is done unless the window or the outbox is full. A message that is gone from the log, or must not go, is
// over.
func (l *link) tryRepeat(f *session.Flight, d *fanout.Delivery, gone bool) (done, ended bool) {
	state := l.term.Lock()
	if state == nil {
		return false, true
	}
	defer l.term.Unlock()
	next, ok := state.Out.ToResend()
	switch {
	case !ok && state.Out.Behind():
		l.wire.starved.Store(true)
		return false, false
	case !ok || next.Position != f.Position:
		return true, false // it was acknowledged meanwhile
	case gone:
		if len(d.Frame) == 0 {
			l.removed(f.From)
		}
		state.Out.Forget(f.ID())
		if state.Touched(f.From) {
			l.term.Changed()
		}
		return true, false
	}
	if done, ended = l.putAgain(f, d); done {
		state.Out.Resent()
	}
	return done, ended
}

// putAgain puts a PUBLISH, or the PUBREL of one that the client has, into the outbox.
func (l *link) putAgain(f *session.Flight, d *fanout.Delivery) (done, ended bool) {
	w := l.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed || w.mu.broken {
		return false, true
	}
	if f.Released {
		w.putLocked(packet.AppendPubrel(w.pendingLocked(), l.version, f.ID(), packet.Success))
		return true, false
	}
	b := w.takeLocked(d.Frame, true)
	if b == nil {
		return false, false
	}
	const dup = 1 << 3
	id := f.ID()
	b[0] |= dup                                // [MQTT-3.3.1-1]
	b[d.ID], b[d.ID+1] = byte(id>>8), byte(id) // [MQTT-2.3.1-3 of 3.1.1]
	l.out.sent.count(d)
	return true, false
}
