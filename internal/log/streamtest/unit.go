package streamtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// everywhere is a receipt that keeps the places of all writes of a unit.
type everywhere struct {
	*told
	n      int
	placed map[uint64][]record.Offset
}

// Appended implements stream.Receipt.
func (e *everywhere) Appended(ticket uint64, at stream.Placed, err error) {
	if err == nil {
		e.mu.Lock()
		for i := range e.n {
			e.placed[ticket] = append(e.placed[ticket], at.Offset(i))
		}
		e.mu.Unlock()
	}
	e.told.Appended(ticket, at, err)
}

func places(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 3)
	r := &everywhere{told: newTold(), n: 5, placed: map[uint64][]record.Offset{}}
	const units = 60
	for i := range units {
		var ws []stream.Write
		for j := range r.n {
			v := &record.Record{Value: fmt.Appendf(nil, "%d/%d", i, j)}
			ws = append(ws, stream.Write{Partition: topic.Partitions[j%3], Record: v})
		}
		appendTo(t, log, r, uint64(i), ws...)
	}
	r.wait(t, units)
	for index, p := range topic.Partitions {
		each(t, log, p, 0, func(v *record.View) {
			var i, j int
			if _, err := fmt.Sscanf(string(v.Value), "%d/%d", &i, &j); err != nil {
				t.Fatal(err)
			}
			if r.placed[uint64(i)][j] != v.Offset || j%3 != index {
				t.Errorf("write %d of unit %d is at %d of partition %d, its receipt says %d",
					j, i, v.Offset, index, r.placed[uint64(i)][j])
			}
		})
	}
}

// beside reads three partitions while units that have a record for each are appended: every reader meets every
// unit once and in order, and what a receipt has told can be read everywhere.
func beside(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 3)
	const units = 300
	r := &readable{told: newTold(), log: log, parts: topic.Partitions}
	h := newHeard()
	watch := log.Watch(h, stream.AllPartitions)
	defer watch.Stop()
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range units {
			v := record.Record{Value: fmt.Append(nil, i)}
			u := unit()
			for _, p := range topic.Partitions {
				u.Writes = append(u.Writes, stream.Write{Partition: p, Record: &v})
			}
			if err := stream.AppendWait(context.Background(), log, u, r, uint64(i)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	readers := make([]reader, len(topic.Partitions))
	for i := range readers {
		readers[i] = reader{log: log, h: h, p: topic.Partitions[i]}
	}
	for busy := true; busy; {
		busy = false
		for i := range readers {
			if readers[i].seen < units {
				busy = true
				readers[i].goOn(t)
			}
		}
	}
	writer.Wait()
	r.wait(t, units)
	if r.early != "" {
		t.Error(r.early)
	}
	for i := range readers {
		if readers[i].seen != units {
			t.Errorf("partition %d has %d of %d units", i, readers[i].seen, units)
		}
	}
}

// reader reads a partition whose record n is of unit n, as far as it has heard that there is something to read.
type reader struct {
	log  stream.Keeper
	h    *heard
	p    stream.PartitionID
	next record.Offset
	seen int
}

func (r *reader) goOn(t *testing.T) {
	t.Helper()
	r.h.await(t, r.p, r.next+1)
	r.next = each(t, r.log, r.p, r.next, func(v *record.View) {
		if want := fmt.Append(nil, r.seen); string(v.Value) != string(want) {
			t.Fatalf("partition %d: %q at %d, unit %d is due", r.p, v.Value, v.Offset, r.seen)
		}
		r.seen++
	})
}

// readable is a receipt that looks whether what it tells can be read.
type readable struct {
	*told
	log   stream.Keeper
	parts []stream.PartitionID
	early string
}

// Appended implements stream.Receipt.
func (r *readable) Appended(ticket uint64, at stream.Placed, err error) {
	for i, p := range r.parts {
		if err != nil {
			break
		}
		if b, e := r.log.Bounds(p); e != nil || b.Stable <= at.Offset(i) {
			r.early = fmt.Sprintf("told of offset %d of partition %d, which ends at %+v, %v", at.Offset(i), i, b, e)
		}
	}
	r.told.Appended(ticket, at, err)
}

func fencing(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 2)
	shard, other := topic.Partitions[0], topic.Partitions[1]
	ctx := context.Background()
	own := func(p stream.PartitionID) stream.Owner {
		t.Helper()
		o, err := log.Own(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	old, bystander := own(shard), own(other)
	r := newTold()
	send := func(o stream.Owner, ticket uint64) error {
		u := unit(stream.Write{Partition: shard, Record: &record.Record{Value: fmt.Append(nil, ticket)}})
		u.Owner = o
		return stream.AppendWait(ctx, log, u, r, ticket)
	}
	if err := send(old, 1); err != nil {
		t.Fatal(err)
	}
	r.wait(t, 1)
	fresh := own(shard)
	// The old owner is told at once or by its receipt: its unit is not there.
	if err := send(old, 2); err == nil {
		r.wait(t, 1)
		wantKind(t, "the receipt of a fenced owner", r.errs[2], fault.Fenced)
	} else {
		wantKind(t, "a unit of a fenced owner", err, fault.Fenced)
	}
	for ticket, o := range map[uint64]stream.Owner{3: fresh, 4: bystander, 5: {}} {
		if err := send(o, ticket); err != nil {
			t.Errorf("unit %d: %v", ticket, err)
			continue
		}
		r.wait(t, 1)
		if r.errs[ticket] != nil {
			t.Errorf("unit %d: %v", ticket, r.errs[ticket])
		}
	}
	each(t, log, shard, 0, func(v *record.View) {
		if string(v.Value) == "2" {
			t.Error("the unit of a fenced owner is in the log")
		}
	})
	_, err := log.Own(ctx, 1<<30)
	wantKind(t, "own no partition", err, fault.NotFound)
}

// takingOver: what an owner had under way when another came can be read by him at once, or is never stored.
func takingOver(t *testing.T, log stream.Keeper) {
	const units = 50
	shard := create(t, log, "a", 1).Partitions[0]
	ctx := context.Background()
	owner, err := log.Own(ctx, shard)
	if err != nil {
		t.Fatal(err)
	}
	r, sent := newTold(), 0
	for ticket := range uint64(units) {
		u := unit(stream.Write{Partition: shard, Record: &record.Record{Value: fmt.Append(nil, ticket)}})
		u.Owner = owner
		if err := stream.AppendWait(ctx, log, u, r, ticket); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if _, err := log.Own(ctx, shard); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	each(t, log, shard, 0, func(v *record.View) { there[string(v.Value)] = true })
	r.wait(t, sent)
	for ticket := range uint64(units) {
		if r.errs[ticket] == nil && !there[fmt.Sprint(ticket)] {
			t.Errorf("unit %d was stored, and could not be read", ticket)
		}
	}
	each(t, log, shard, 0, func(v *record.View) {
		if !there[string(v.Value)] {
			t.Errorf("unit %s came after its owner was gone", v.Value)
		}
	})
}

// heard is a watcher that notes how far each partition is.
type heard struct {
	mu   sync.Mutex
	ends map[stream.PartitionID]record.Offset
	more chan struct{}
}

func newHeard() *heard {
	return &heard{ends: make(map[stream.PartitionID]record.Offset), more: make(chan struct{}, 1)}
}

// Advanced implements stream.Watcher.
func (h *heard) Advanced(p stream.PartitionID, stable record.Offset) {
	h.mu.Lock()
	h.ends[p] = stable
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
}

func (h *heard) end(p stream.PartitionID) record.Offset {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ends[p]
}

func (h *heard) await(t *testing.T, p stream.PartitionID, end record.Offset) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for h.end(p) < end {
		select {
		case <-h.more:
		case <-deadline.C:
			t.Fatalf("told of %d of partition %d, it is at %d", h.end(p), p, end)
		}
	}
}

func follows(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 3)
	a, b, c := topic.Partitions[0], topic.Partitions[1], topic.Partitions[2]
	h, all := newHeard(), newHeard()
	some, every := log.Watch(h, stream.Followed), log.Watch(all, stream.AllPartitions)
	defer some.Stop()
	defer every.Stop()
	x := record.Record{Value: []byte("x")}
	some.Follow(a, b)
	for _, p := range topic.Partitions {
		put(t, log, p, x)
	}
	h.await(t, a, 1)
	h.await(t, b, 1)
	if h.end(c) != 0 {
		t.Error("told of a partition that is not followed")
	}
	some.Unfollow(b)
	some.Follow(c)
	put(t, log, b, x)
	put(t, log, c, x)
	h.await(t, c, 2)
	for _, p := range topic.Partitions {
		bounds, err := log.Bounds(p)
		if err != nil {
			t.Fatal(err)
		}
		all.await(t, p, bounds.Stable)
	}
	later := create(t, log, "b", 1).Partitions[0]
	put(t, log, later, x)
	all.await(t, later, 1)
}

func stopped(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	h := newHeard()
	watch := log.Watch(h, stream.AllPartitions)
	put(t, log, p, record.Record{Value: []byte("x")})
	h.await(t, p, 1)
	watch.Stop()
	put(t, log, p, record.Record{Value: []byte("y")})
	if h.end(p) != 1 {
		t.Errorf("told of %d after stop", h.end(p))
	}
}

func byTime(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	ctx := context.Background()
	now := time.Now().UnixMilli() - 10_000
	for i := range int64(20) {
		put(t, log, p, record.Record{Timestamp: now + 100*i, Value: []byte("x")})
	}
	for i := range int64(20) {
		for _, early := range []int64{0, 1, 99} {
			at, stamp, err := log.OffsetForTime(ctx, p, now+100*i-early)
			if err != nil || at != record.Offset(i) || stamp != now+100*i {
				t.Fatalf("record at or after %d: offset %d, stamp %d, %v", 100*i-early, at, stamp-now, err)
			}
		}
	}
	if at, stamp, err := log.OffsetForTime(ctx, p, now+1901); err != nil || at != -1 || stamp != -1 {
		t.Errorf("after the last: offset %d, stamp %d, %v", at, stamp, err)
	}
	_, _, err := log.OffsetForTime(ctx, 1<<30, 0)
	wantKind(t, "time in no partition", err, fault.NotFound)
}

func folds(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	want := map[string]string{}
	for i := range 200 {
		k, v := fmt.Sprint(i%7), fmt.Sprint(i)
		want[k] = v
		put(t, log, p, record.Record{Key: []byte(k), Value: []byte(v)})
	}
	got := map[string]string{}
	odd := errors.New("odd")
	f, err := stream.Fold(context.Background(), log, p, 0, func(v *record.View) error {
		got[string(v.Key)] = string(v.Value)
		switch v.Offset {
		case 50:
			panic("poison")
		case 60:
			return odd
		}
		return nil
	})
	if err != nil || f.Next != 200 || f.Records != 200 || f.Lost != 0 || f.Strange != 2 || f.Complete() || f.First == nil {
		t.Errorf("folded %+v, %v", f, err)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("key %s is %s, want %s", k, got[k], v)
		}
	}
	if f, err = stream.Fold(context.Background(), log, p, f.Next, nil); err != nil || f.Next != 200 || f.Records != 0 {
		t.Errorf("nothing new: %+v, %v", f, err)
	}
}

// turns fills the log's room from many callers at once: all get in, and nobody blocks in Append.
func turns(t *testing.T, log stream.Keeper) {
	p := create(t, log, "a", 1).Partitions[0]
	const callers, each1 = 16, 30
	r := newTold()
	large := make([]byte, 300<<10)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each1 {
				v := record.Record{Key: []byte{byte(c), byte(i)}, Value: large}
				u := unit(stream.Write{Partition: p, Record: &v})
				if err := stream.AppendWait(context.Background(), log, u, r, uint64(c<<16|i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.wait(t, callers*each1)
	next := make([]byte, callers)
	each(t, log, p, 0, func(v *record.View) {
		if c, i := v.Key[0], v.Key[1]; i != next[c] {
			t.Errorf("caller %d: its %d where its %d is due", c, i, next[c])
		} else {
			next[c]++
		}
	})
}

// shards appends for callers who go from owner to owner: the order of each caller is kept all the same.
func shards(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 4)
	owners := []stream.Owner{{}}
	for _, p := range topic.Partitions[:3] {
		o, err := log.Own(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		owners = append(owners, o)
	}
	const callers, units = 4, 60
	told := make([]*told, callers)
	target := topic.Partitions[3]
	var wg sync.WaitGroup
	for c := range callers {
		told[c] = newTold()
		wg.Go(func() {
			for i := range units {
				v := record.Record{Value: []byte{byte(c), byte(i)}}
				u := unit(stream.Write{Partition: target, Record: &v})
				u.Owner = owners[(i/(c+1))%len(owners)]
				if err := stream.AppendWait(context.Background(), log, u, told[c], uint64(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for c := range callers {
		told[c].wait(t, units)
		for i, ticket := range told[c].order {
			if ticket != uint64(i) || told[c].errs[ticket] != nil {
				t.Fatalf("caller %d: receipt %d is for %d, %v", c, i, ticket, told[c].errs[ticket])
			}
		}
	}
	next := make([]byte, callers)
	each(t, log, target, 0, func(v *record.View) {
		c, i := v.Value[0], v.Value[1]
		if i != next[c] || told[c].bases[uint64(i)] != v.Offset {
			t.Errorf("offset %d: caller %d's %d where its %d is due, told of %d", v.Offset, c, i, next[c],
				told[c].bases[uint64(i)])
		}
		next[c] = i + 1
	})
}
