package mqtt

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// replay is a subscription that begins in the past, as the fanout sees it: a member of its own, which comes back from
// where the subscription stands and is one that fell behind until it has caught up. So it holds up no other
// subscription, and none holds up it; what it and others match comes by each of them (MQTT 5.0, section 3.3.4).
type replay struct {
	link   *link
	member *fanout.Member
	sub    *session.Subscription // of the session, as it began
	served *session.Subscription // of the fanout; belongs to the driver
}

var _ fanout.Sink = (*replay)(nil)

// Deliver implements fanout.Sink.
func (r *replay) Deliver(run *fanout.Run) fanout.Verdict { return r.link.driver.deliverFor(r, run) }

// Flush implements fanout.Sink.
func (r *replay) Flush() { r.link.driver.Flush() }

// Behind implements fanout.Sink.
func (r *replay) Behind(by int) { r.link.driver.behindFor(r, by) }

func (l *link) behindFor(r *replay, by int) {
	state := l.term.Lock()
	if state == nil {
		return
	}
	defer l.term.Unlock()
	if state.ReplayBehind(r.sub.Replay, by, l.term.Last()) {
		l.term.Changed()
	}
}

// replays are the subscriptions that begin in the past. They are not to be changed.
func (l *link) replays() []*replay {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.out.seldom == nil {
		return nil
	}
	return l.out.seldom.replays
}

// leaveFanout ends all that the session is in the fanout.
func (l *link) leaveFanout() {
	if m := l.member.Load(); m != nil {
		l.door.fanout.Leave(m)
	}
	for _, r := range l.replays() {
		l.door.fanout.Leave(r.member)
	}
}

// wakeMembers tells all that the session is in the fanout that there is room.
func (l *link) wakeMembers() {
	if m := l.member.Load(); m != nil {
		m.Wake()
	}
	for _, r := range l.replays() {
		r.member.Wake()
	}
}

// serve puts a subscription in force that was granted. Errors: *packet.Error, when it cannot be found out where it
// begins.
func (l *link) serve(member *fanout.Member, g *session.Grant) error {
	before := l.replayOf(g.Old)
	switch {
	case g.Sub.Replay == nil:
		l.door.fanout.Subscribe(member, g.Sub, g.Old)
		return nil
	case before != nil && g.Old.Replay == g.Sub.Replay: // other options, the same place
		served := g.Sub.Served()
		l.door.fanout.Subscribe(before.member, served, before.served)
		before.served = served
		return nil
	case g.Old != nil:
		l.stopServing(g.Old)
	}
	if err := l.beginReplay(g.Sub); err != nil {
		return &packet.Error{Reason: packet.ServerUnavailable,
			Detail: "it cannot be found out now where a subscription begins: " + err.Error()}
	}
	return nil
}

// replayOf is what serves a subscription that begins in the past; nil: nothing does.
func (l *link) replayOf(sub *session.Subscription) *replay {
	if sub == nil || sub.Replay == nil {
		return nil
	}
	for _, r := range l.replays() {
		if r.sub.Replay == sub.Replay {
			return r
		}
	}
	return nil
}

// stopServing ends what serves a subscription.
func (l *link) stopServing(sub *session.Subscription) {
	if sub.Replay == nil {
		l.door.fanout.Unsubscribe(l.member.Load(), sub)
		return
	}
	r := l.replayOf(sub)
	if r == nil {
		return
	}
	l.wire.mu.Lock()
	s := l.out.seldom
	s.replays = slices.DeleteFunc(slices.Clone(s.replays), func(other *replay) bool { return other == r })
	l.wire.mu.Unlock()
	l.door.fanout.Leave(r.member)
}

// beginReplay serves a subscription that begins in the past from where it stands. Errors: those of the log.
func (l *link) beginReplay(sub *session.Subscription) error {
	r := &replay{link: l, sub: sub, served: sub.Served()}
	at, err := l.standsAt(r)
	if err != nil {
		return err
	}
	r.member = l.door.fanout.Join(r, l.version, "")
	l.wire.mu.Lock()
	s := l.seldomLocked()
	s.replays = append(slices.Clip(s.replays), r)
	l.wire.mu.Unlock()
	l.door.fanout.Return(r.member, fanout.Returning{
		Subs: []*session.Subscription{r.served},
		At: func(p stream.PartitionID) record.Offset {
			if offset, known := at[p]; known {
				return offset
			}
			return -1 // it was made since
		},
		Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
		QoS0:  !sub.Replay.Caught() || l.keepsAll,
	})
	l.behindFor(r, -1) // as it began
	if l.term.Over() { // the connection may have ended before it knew the member
		l.door.fanout.Leave(r.member)
	}
	return nil
}

// placedAtOnce is in how many partitions a replay gets places when it begins. Where it wants more, it is found out
// again where it begins until it has taken something there.
const placedAtOnce = 64

// standsAt is where a replay stands in each partition that it may want. Errors: those of the log.
func (l *link) standsAt(r *replay) (map[stream.PartitionID]record.Offset, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.door.opt.ConnectTimeout)
	defer cancel()
	partitions := l.door.fanout.Partitions(r.served.Filter)
	at := make(map[stream.PartitionID]record.Offset, len(partitions))
	for _, p := range partitions {
		stands, fresh := l.term.ReplayStands(r.sub.Replay, p)
		if fresh {
			begins, err := l.door.begins(ctx, r.sub.Replay.From, p)
			if fault.Is(err, fault.NotFound) {
				continue // it was deleted just now
			}
			if err != nil {
				return nil, err
			}
			stands = max(stands, begins)
		}
		at[p] = stands
	}
	if len(at) <= placedAtOnce && r.sub.Replay.From.Kind != session.FromEarliest {
		l.placeReplay(r, at)
	}
	return at, nil
}

func (l *link) placeReplay(r *replay, at map[stream.PartitionID]record.Offset) {
	state := l.term.Lock()
	if state == nil {
		return
	}
	defer l.term.Unlock()
	for p, offset := range at {
		if state.ReplayBegins(r.sub.Replay, uint32(p), int64(offset)) {
			l.term.Changed()
		}
	}
}

// begins is the offset at which a partition begins for who asks for a From. What is older than the log begins at its
// start, what is newer at its end. Errors: those of the log.
func (d *Door) begins(ctx context.Context, from session.From, p stream.PartitionID) (record.Offset, error) {
	bounds, err := d.opt.Log.Bounds(p)
	if err != nil {
		return 0, err
	}
	switch from.Kind {
	case session.FromOffset:
		return min(max(record.Offset(from.At), bounds.Start), bounds.Stable), nil
	case session.FromTime:
		at, _, err := d.opt.Log.OffsetForTime(ctx, p, from.At)
		if err != nil {
			return 0, err
		}
		if at < 0 {
			return bounds.Stable, nil
		}
		return max(at, bounds.Start), nil
	}
	return bounds.Start, nil
}
