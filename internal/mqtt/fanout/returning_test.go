package fanout

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// bring brings a session back to a fanout whose worker is driven by hand.
func (s *still) bring(t *testing.T, sink Sink, at record.Offset) *Member {
	t.Helper()
	m := s.Join(sink, packet.V5, "")
	s.Return(m, Returning{
		Subs:  []*session.Subscription{{Filter: "fleet/#", QoS: 1}},
		At:    func(stream.PartitionID) record.Offset { return at },
		Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
	})
	s.part = s.w.mu.parts[s.part.id]
	return m
}

// takeJoins has the worker take in hand what it was asked to join.
func (s *still) takeJoins() {
	s.w.joins, s.w.mu.joins = append(s.w.joins, s.w.mu.joins...), nil
	s.w.joinSome()
}

// record is a record of the test's topic.
func (s *still) record(t *testing.T, at record.Offset) *record.View {
	v := view(t, &record.Record{Key: []byte("fleet/x"), Value: []byte("x")})
	v.Offset = at
	return v
}

// TestApart: a member that came back gets nothing live before it was joined, and then a cursor where the first record
// for it was passed over.
func TestApart(t *testing.T) {
	h := hold(t)
	behind := &added{}
	h.CatchUpWith(behind)
	sink := &picky{takes: 99}
	m := h.bring(t, sink, 0)
	if sink.behind != 1 {
		t.Fatalf("behind in %d", sink.behind)
	}
	h.live(h.record(t, 0))
	h.live(h.record(t, 1))
	h.part.cursor, h.part.claimed, h.part.stable = 2, 2, 2
	if len(sink.got) > 0 || len(behind.cursors) > 0 {
		t.Fatalf("it got %v, cursors %v", sink.got, behind.cursors)
	}
	h.takeJoins()
	if len(behind.cursors) != 1 || behind.cursors[0].At != 0 || behind.cursors[0].Member != m || sink.behind != 1 {
		t.Fatalf("cursors: %+v; behind in %d", behind.cursors, sink.behind)
	}
	if len(h.w.missed) > 0 || m.apart.Load() != 0 {
		t.Error("it is apart still")
	}
	h.live(h.record(t, 2))
	c := behind.cursors[0]
	c.At = 3
	h.part.cursor, h.part.claimed = 3, 3
	if !c.HandOver() {
		t.Fatal("it has reached the head")
	}
	m.CaughtUp()
	h.live(h.record(t, 3))
	if len(sink.got) != 1 || sink.got[0] != 3 || sink.behind != 0 {
		t.Errorf("it got %v, and is behind in %d", sink.got, sink.behind)
	}
}

// TestAhead: a member that stands above the worker, which has those records in hand, gets what comes from there on.
func TestAhead(t *testing.T) {
	h := hold(t)
	behind := &added{}
	h.CatchUpWith(behind)
	other := &picky{takes: 99}
	h.bring(t, other, 0)
	h.takeJoins()
	h.part.stable = 5
	sink := &picky{takes: 99}
	h.bring(t, sink, 3)
	h.takeJoins()
	for at := range record.Offset(5) {
		h.live(h.record(t, at))
	}
	if fmt.Sprint(sink.got) != "[3 4]" || fmt.Sprint(other.got) != "[0 1 2 3 4]" || sink.behind != 0 {
		t.Errorf("got %v and %v, behind in %d", sink.got, other.got, sink.behind)
	}
	h.part.cursor = 5
	h.w.reclaim(nil)
	if len(h.w.waiting) > 0 || len(h.part.behind) > 0 || len(behind.cursors) > 0 {
		t.Errorf("left: %v %v %v", h.w.waiting, h.part.behind, behind.cursors)
	}
}

// TestReturnInTheMiddleOfATurn: another connection took by a cursor what the worker has in hand, and the session comes
// back before the worker comes to that. It gets nothing twice.
func TestReturnInTheMiddleOfATurn(t *testing.T) {
	h := hold(t)
	behind := &added{}
	h.CatchUpWith(behind)
	h.bring(t, &picky{takes: 99}, 0)
	h.takeJoins()
	h.part.claimed, h.part.stable = 5, 5
	sink := &picky{takes: 99}
	h.Return(h.Join(sink, packet.V5, ""), Returning{
		Subs: []*session.Subscription{{Filter: "fleet/#", QoS: 1}},
		At: func(stream.PartitionID) record.Offset { // the subscription is in force by now, and the turn goes on
			for at := range record.Offset(5) {
				h.live(h.record(t, at))
			}
			h.w.dealtWith(h.part, 5)
			return 5
		},
		Since: func(*session.Subscription, stream.PartitionID) record.Offset { return 0 },
	})
	h.takeJoins()
	h.live(h.record(t, 5))
	if fmt.Sprint(sink.got) != "[5]" || len(behind.cursors) > 0 || sink.behind != 0 {
		t.Errorf("got %v, cursors %v, behind in %d", sink.got, behind.cursors, sink.behind)
	}
}

// TestLeaveApart: a member that leaves before it was joined leaves nothing behind.
func TestLeaveApart(t *testing.T) {
	h := hold(t)
	h.CatchUpWith(&added{})
	sink := &picky{takes: 99}
	m := h.bring(t, sink, 0)
	h.live(h.record(t, 0))
	h.Leave(m)
	h.takeJoins()
	if len(h.w.missed)+len(h.w.joins)+len(h.w.owed)+len(h.part.behind) > 0 || sink.behind != 0 || m.apart.Load() != 0 {
		t.Errorf("left: %v %v %v %v, behind in %d", h.w.missed, h.w.joins, h.w.owed, h.part.behind, sink.behind)
	}
}

// TestJoinsAreBounded joins many members in rounds, so that live delivery goes on between them.
func TestJoinsAreBounded(t *testing.T) {
	h := hold(t)
	h.CatchUpWith(&added{})
	const members = 3 * joinsARound
	for range members {
		h.bring(t, &picky{takes: 99}, 0)
	}
	h.w.mu.Lock()
	h.w.joins, h.w.mu.joins = append(h.w.joins, h.w.mu.joins...), nil
	h.w.mu.Unlock()
	for left := members; left > 0; left -= joinsARound {
		if len(h.w.joins) != left {
			t.Fatalf("%d are left, not %d", len(h.w.joins), left)
		}
		h.w.joinSome()
	}
	if len(h.w.joins) != 0 {
		t.Errorf("%d are left", len(h.w.joins))
	}
}
