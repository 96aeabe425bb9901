package fanout

import (
	"fmt"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// picky is a sink that takes some messages, panics over one and says then what it has to say.
type picky struct {
	takes  int // so many in all
	poison int // the number of the message over which it panics; 0: none
	then   Verdict
	got    []int64 // offsets
	runs   int
	behind int
}

func (s *picky) Deliver(r *Run) Verdict {
	s.runs++
	for d := r.Next(); d != nil; d = r.Next() {
		if len(s.got) == s.takes {
			return s.then
		}
		if n := len(s.got) + 1; n == s.poison {
			s.poison = 0
			panic("poison")
		}
		s.got = append(s.got, d.From.Offset)
		r.Take()
	}
	return Taken
}

func (s *picky) Flush() {}

func (s *picky) Behind(by int) { s.behind += by }

// added is who is behind, and keeps the cursors.
type added struct{ cursors []*Cursor }

func (a *added) Add(c *Cursor) { a.cursors = append(a.cursors, c) }
func (a *added) Wake(*Member)  {}

// TestBatchIsTakenInPart offers ten records together: who takes only some of them has a cursor at the first that it did
// not take, one that is gone has none, and one that panics over a message gets the others.
func TestBatchIsTakenInPart(t *testing.T) {
	h := hold(t)
	behind := &added{}
	h.CatchUpWith(behind)
	all, some, gone, bad := &picky{takes: 99}, &picky{takes: 3, then: Later}, &picky{takes: 4, then: Gone},
		&picky{takes: 99, poison: 6}
	for _, s := range []*picky{all, some, gone, bad} {
		h.Subscribe(h.Join(s, packet.V311, ""), &session.Subscription{Filter: "fleet/#", QoS: 1}, nil)
	}
	for i := range 10 {
		v := view(t, &record.Record{Key: fmt.Appendf(nil, "fleet/%d", i), Value: []byte("x")})
		v.Offset = record.Offset(100 + i)
		h.take(v)
	}
	h.w.offerBatch()
	for name, c := range map[string]struct {
		sink *picky
		runs int
		want []int64
	}{
		"all":  {all, 1, []int64{100, 101, 102, 103, 104, 105, 106, 107, 108, 109}},
		"some": {some, 1, []int64{100, 101, 102}},
		"gone": {gone, 1, []int64{100, 101, 102, 103}},
		"bad":  {bad, 2, []int64{100, 101, 102, 103, 104, 106, 107, 108, 109}},
	} {
		if !slices.Equal(c.sink.got, c.want) || c.sink.runs != c.runs {
			t.Errorf("%s got %v in %d runs, want %v in %d", name, c.sink.got, c.sink.runs, c.want, c.runs)
		}
	}
	if some.behind != 1 || all.behind != 0 {
		t.Errorf("told to be behind in %d and %d partitions, not in 1 and none", some.behind, all.behind)
	}
	if len(behind.cursors) != 1 || behind.cursors[0].Member.sink != Sink(some) || behind.cursors[0].At != 103 {
		t.Errorf("cursors: %+v", behind.cursors)
	}
}

// TestBatchStaysSmall delivers a large message to many members that each get it in a form of their own: what is in hand
// is no more than one of them beyond the bound.
func TestBatchStaysSmall(t *testing.T) {
	const size, members = 100_000, 50
	h := hold(t)
	most, got := 0, 0
	for i := range members {
		s := watching(func() {
			most = max(most, len(h.w.batch.memory))
			got++
		})
		h.Subscribe(h.Join(s, packet.V5, ""), &session.Subscription{Filter: "fleet/#", ID: uint32(i + 1)}, nil)
	}
	h.live(view(t, &record.Record{Key: []byte("fleet/x"), Value: make([]byte, size)}))
	if got != members || most > batchBytes+size+100 {
		t.Errorf("%d members got it, with %d bytes in hand", got, most)
	}
}

// watching is a sink that takes everything and tells of each message.
type watching func()

func (w watching) Deliver(r *Run) Verdict {
	for r.Next() != nil {
		w()
		r.Take()
	}
	return Taken
}

func (watching) Flush() {}

func (watching) Behind(int) {}
