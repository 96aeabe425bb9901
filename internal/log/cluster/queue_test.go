package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// who is a caller.
type who struct{ name int }

// Appended implements stream.Receipt.
func (*who) Appended(uint64, stream.Placed, error) {}

func newQueue(shards int) (*queue, []*lane) {
	q := &queue{
		callers: map[stream.Receipt]*caller{}, owned: map[stream.PartitionID]*lane{},
		anybody: &lane{work: make(chan struct{}, 1)},
	}
	lanes := []*lane{q.anybody}
	for i := range shards {
		l := &lane{work: make(chan struct{}, 1)}
		if _, err := q.own(stream.PartitionID(i), l, func() {}); err != nil {
			panic(err)
		}
		lanes = append(lanes, l)
	}
	return q, lanes
}

// TestCallersKeepTheirOrder appends for callers who change lanes at random, and sends the lanes at random: the units of
// a caller are under way in one lane at a time, in the order of his Appends, and all of them come.
func TestCallersKeepTheirOrder(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		q, lanes := newQueue(3)
		opt := &Options{QueueBytes: 1 << 40, GroupBytes: 1 + rng.Int64N(20)}
		callers := make([]*who, 5)
		appended, sent := make([]uint64, len(callers)+1), make([]uint64, len(callers)+1)
		for i := range callers {
			callers[i] = &who{i}
		}
		under := make([]*group, len(lanes)) // what each lane has under way
		busy := make(map[int]*lane)
		step := func(i int) {
			l := lanes[i]
			if g := under[i]; g != nil {
				for _, u := range g.units {
					delete(busy, name(u))
				}
				q.done(l, g)
				under[i] = nil
				return
			}
			g := &group{}
			if q.take(l, g, opt); len(g.units) == 0 {
				return
			}
			under[i] = g
			for _, u := range g.units {
				who := name(u)
				if other := busy[who]; other != nil && other != l {
					t.Fatalf("seed %d: caller %d has units under way in two lanes", seed, who)
				}
				if busy[who] = l; u.ticket != sent[who] || u.lane != l {
					t.Fatalf("seed %d: caller %d: unit %d where %d is due", seed, who, u.ticket, sent[who])
				}
				sent[who]++
			}
		}
		for range 2000 {
			if rng.IntN(3) > 0 {
				step(rng.IntN(len(lanes)))
				continue
			}
			u := &stream.Unit{}
			if shard := rng.IntN(len(lanes)); shard > 0 {
				u.Owner = lanes[shard].owner
			}
			l, err := q.enter(u, 1, opt.QueueBytes)
			if err != nil {
				t.Fatal(err)
			}
			mine, caller := &unit{lane: l, bytes: 1}, rng.IntN(len(appended))
			if caller < len(callers) {
				mine.to = callers[caller]
			}
			mine.ticket = appended[caller]
			appended[caller]++
			q.put(mine)
		}
		for q.count > 0 {
			step(rng.IntN(len(lanes)))
		}
		if fmt.Sprint(appended) != fmt.Sprint(sent) || len(q.callers) > 0 || q.bytes != 0 {
			t.Fatalf("seed %d: appended %v, sent %v; %d callers, %d bytes left", seed, appended, sent, len(q.callers), q.bytes)
		}
	}
}

// name is the number of a unit's caller; the last is nobody.
func name(u *unit) int {
	if to, ok := u.to.(*who); ok {
		return to.name
	}
	return 5
}

func TestQueueHasRoomInTurn(t *testing.T) {
	q, _ := newQueue(0)
	opt := &Options{QueueBytes: 100, GroupBytes: 100}
	var called []int
	turn := func(i int) *stream.Turn { return &stream.Turn{Roomy: func() { called = append(called, i) }} }
	enter := func(bytes int64, turn *stream.Turn) error {
		l, err := q.enter(&stream.Unit{Turn: turn}, bytes, opt.QueueBytes)
		if err == nil {
			q.put(&unit{lane: l, bytes: bytes})
		}
		return err
	}
	if err := enter(500, nil); err != nil { // larger than all there is, and alone
		t.Fatal(err)
	}
	turns := []*stream.Turn{turn(0), turn(1), turn(2)}
	for _, one := range turns {
		if err := enter(60, one); !errors.Is(err, stream.ErrCrowded) {
			t.Fatal(err)
		}
	}
	g := &group{}
	q.take(q.anybody, g, opt)
	q.done(q.anybody, g)
	room, _ := q.take(q.anybody, g, opt)
	callTurns(room)
	if fmt.Sprint(called) != "[0 1]" { // the second is called because the first may not come
		t.Errorf("called %v", called)
	}
	if err := enter(10, nil); !errors.Is(err, stream.ErrCrowded) {
		t.Errorf("who has just come: %v", err)
	}
	if err := enter(60, turns[0]); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := enter(60, turns[1]); !errors.Is(err, stream.ErrCrowded) {
		t.Errorf("the second: %v", err)
	}
	if _, first := q.close(); !first {
		t.Error("it was closed before")
	}
	if err := enter(1, turns[1]); !fault.Is(err, fault.Closed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestOwnersOfALane(t *testing.T) {
	q, lanes := newQueue(1)
	old := lanes[1].owner
	next := &lane{work: make(chan struct{}, 1)}
	owner, err := q.own(0, next, func() {})
	if err != nil || owner.Epoch != old.Epoch+1 {
		t.Fatalf("%+v, %v", owner, err)
	}
	for o, want := range map[stream.Owner]bool{
		old: false, owner: true, {}: true, {Shard: 9, Epoch: 1}: false, {Shard: 0, Epoch: 3}: false,
	} {
		_, err := q.enter(&stream.Unit{Owner: o}, 1, 100)
		if want != (err == nil) || err != nil && !fault.Is(err, fault.Fenced) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if q.lost(lanes[1]) == nil || q.lost(next) != nil {
		t.Errorf("lost: %v, %v", q.lost(lanes[1]), q.lost(next))
	}
	if _, ends := q.take(lanes[1], &group{}, &Options{QueueBytes: 1, GroupBytes: 1}); !ends {
		t.Error("the sender of an owner of before goes on")
	}
	q.fence(next)
	if _, err := q.enter(&stream.Unit{Owner: owner}, 1, 100); !fault.Is(err, fault.Fenced) {
		t.Errorf("fenced by the cluster: %v", err)
	}
}
