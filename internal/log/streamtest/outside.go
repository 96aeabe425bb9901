package streamtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// singles appends records one after the other, each a batch of its own, and gives their offsets.
func singles(t *testing.T, log stream.Keeper, p stream.PartitionID, values ...string) []record.Offset {
	t.Helper()
	var at []record.Offset
	for _, v := range values {
		at = append(at, put(t, log, p, record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)}))
	}
	return at
}

// gaps begins at every offset of a partition with gaps: a scan visits what is there, and always goes on.
func gaps(t *testing.T, k *Kept) {
	k.needs(t, "Hide", k.Hide != nil)
	p := create(t, k, "a", 1).Partitions[0]
	h := newHeard()
	watch := k.Watch(h, stream.Followed)
	defer watch.Stop()
	watch.Follow(p)
	at := singles(t, k, p, "0", "1", "2")
	k.Hide(p)
	at = append(at, singles(t, k, p, "3")...)
	k.Hide(p)
	k.Hide(p)
	at = append(at, singles(t, k, p, "4", "5")...)
	k.Hide(p)
	bounds, err := k.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	if at[3] == at[2]+1 || at[4] == at[3]+1 || bounds.Stable == at[5]+1 || bounds.Stable != bounds.High {
		t.Fatalf("there are no gaps: %v, %+v", at, bounds)
	}
	h.await(t, p, bounds.Stable)
	for from := bounds.Start; from < bounds.Stable; from++ {
		for _, most := range []int{1, 0} {
			var seen []record.Offset
			next := from
			for next < bounds.Stable {
				before := next
				next, err = k.Scan(p, next, stream.ScanOptions{MaxBytes: most}, func(v *record.View) bool {
					seen = append(seen, v.Offset)
					return true
				})
				if err != nil || next <= before || next > bounds.Stable {
					t.Fatalf("scan at %d of %+v goes on at %d, %v", before, bounds, next, err)
				}
			}
			first, _ := slices.BinarySearch(at, from)
			if !slices.Equal(seen, at[first:]) {
				t.Fatalf("from %d on: visited %v, want %v", from, seen, at[first:])
			}
		}
	}
	f, err := stream.Fold(context.Background(), k, p, bounds.Start, func(*record.View) error { return nil })
	if err != nil || f.Records != int64(len(at)) || !f.Complete() || f.Next != bounds.Stable {
		t.Errorf("folded %+v, %v", f, err)
	}
}

func trimmed(t *testing.T, k *Kept) {
	k.needs(t, "Trim", k.Trim != nil)
	p := create(t, k, "a", 1).Partitions[0]
	const n, start = 20, 7
	began := time.Now().UnixMilli()
	for i := range n {
		put(t, k, p, record.Record{Timestamp: began + int64(i), Value: fmt.Append(nil, i)})
	}
	k.Trim(p, start)
	if b, err := k.Bounds(p); err != nil || b != (stream.Bounds{Start: start, Stable: n, High: n}) {
		t.Fatalf("bounds %+v, %v", b, err)
	}
	never := func(v *record.View) bool { t.Errorf("visited %d", v.Offset); return true }
	for _, from := range []record.Offset{0, start - 1} {
		next, err := k.Scan(p, from, stream.ScanOptions{}, never)
		wantKind(t, fmt.Sprintf("scan at %d", from), err, fault.OutOfRange)
		if next != from {
			t.Errorf("scan at %d goes on at %d", from, next)
		}
	}
	first := record.Offset(-1)
	each(t, k, p, start, func(v *record.View) {
		if first < 0 {
			first = v.Offset
		}
	})
	if first != start {
		t.Errorf("the first is %d", first)
	}
	at, stamp, err := k.OffsetForTime(context.Background(), p, began)
	if at != start || stamp != began+start || err != nil {
		t.Errorf("by time: offset %d, stamp %d, %v", at, stamp-began, err)
	}
	f, err := stream.Fold(context.Background(), k, p, 0, func(*record.View) error { return nil })
	if err != nil || f.Lost != start || f.Records != n-start || f.Complete() || f.Next != n {
		t.Errorf("folded %+v, %v", f, err)
	}
	k.Trim(p, n)
	if next, err := k.Scan(p, n, stream.ScanOptions{}, never); err != nil || next != n {
		t.Errorf("at the end of nothing: next %d, %v", next, err)
	}
}

// damage spoils one batch: a scan visits what comes before it and says how far it reaches, and a fold has the rest.
func damage(t *testing.T, k *Kept) {
	k.needs(t, "Damage", k.Damage != nil)
	p := create(t, k, "a", 1).Partitions[0]
	var values []string
	for i := range 30 {
		values = append(values, fmt.Sprintf("damage-%0100d", i))
	}
	singles(t, k, p, values...)
	const bad = 10
	k.Damage(p, []byte(values[bad]))
	last := record.Offset(-1)
	next, err := record.Offset(0), error(nil)
	for next < 30 && err == nil {
		next, err = k.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
			last = v.Offset
			return true
		})
	}
	var d *stream.Damage
	if !errors.As(err, &d) || d.From != bad || d.Next != bad+1 || !fault.Is(err, fault.Corrupt) {
		t.Fatalf("scanned up to %d: %v", next, err)
	}
	if next != bad || last != bad-1 {
		t.Errorf("visited up to %d, goes on at %d", last, next)
	}
	count := 0
	each(t, k, p, d.Next, func(*record.View) { count++ })
	if count != 30-bad-1 {
		t.Errorf("%d records behind the damage", count)
	}
	f, err := stream.Fold(context.Background(), k, p, 0, func(*record.View) error { return nil })
	if err != nil || f.Lost != 1 || f.Records != 29 || f.Complete() || !fault.Is(f.First, fault.Corrupt) || f.Next != 30 {
		t.Errorf("folded %+v, %v", f, err)
	}
}

func failedRead(t *testing.T, k *Kept) {
	k.needs(t, "FailRead", k.FailRead != nil)
	p := create(t, k, "a", 1).Partitions[0]
	var values []string
	for i := range 30 {
		values = append(values, fmt.Sprintf("%0100d", i))
	}
	singles(t, k, p, values...)
	k.FailRead()
	f, err := stream.Fold(context.Background(), k, p, 0, func(*record.View) error { return nil })
	if err != nil || !f.Complete() || f.Records != 30 {
		t.Errorf("folded %+v, %v", f, err)
	}
}

// mixed appends, as one caller, units that a keeper may take different ways: their receipts and their records come in
// the order of the Appends.
func mixed(t *testing.T, log stream.Keeper) {
	topic := create(t, log, "a", 2)
	p, q := topic.Partitions[0], topic.Partitions[1]
	owner, err := log.Own(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	const units = 60
	r := newTold()
	for i := range units {
		v := record.Record{Value: fmt.Append(nil, i)}
		u := unit(stream.Write{Partition: p, Record: &v})
		switch i % 4 {
		case 1:
			u.Writes = append(u.Writes, stream.Write{Partition: q, Record: &v})
		case 2:
			u.Owner = owner
		}
		if err := stream.AppendWait(context.Background(), log, u, r, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, units)
	for i, ticket := range r.order {
		if ticket != uint64(i) || r.errs[ticket] != nil {
			t.Fatalf("receipt %d is for ticket %d: %v", i, ticket, r.errs[ticket])
		}
	}
	due := 0
	each(t, log, p, 0, func(v *record.View) {
		if string(v.Value) != fmt.Sprint(due) || r.bases[uint64(due)] != v.Offset {
			t.Fatalf("%q at %d, unit %d is due at %d", v.Value, v.Offset, due, r.bases[uint64(due)])
		}
		due++
	})
	if due != units {
		t.Errorf("%d units of %d", due, units)
	}
}

// seen is a topic as another keeper has it, once it does.
func seen(t *testing.T, log stream.Keeper, of *stream.Topic) *stream.Topic {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); time.Now().Before(limit); <-tick.C {
		if topic := log.Topics().ByID(of.ID); topic != nil {
			return topic
		}
	}
	t.Fatalf("topic %s is not seen on the other node", of.Name)
	return nil
}

// rivals take a shard over from one another: the older one's unit is not in the log, wherever it was appended.
func rivals(t *testing.T, k *Kept) {
	k.needs(t, "Rival", k.Rival != nil)
	topic := create(t, k, "a", 2)
	logs := [2]stream.Keeper{k, k.Rival()}
	there := seen(t, logs[1], topic)
	shards := [2]stream.PartitionID{topic.Partitions[0], there.Partitions[0]}
	var owners [2]stream.Owner
	var err error
	fenced := 0
	for round := range 6 {
		now, before := round%2, (round+1)%2
		if owners[now], err = logs[now].Own(context.Background(), shards[now]); err != nil {
			t.Fatal(err)
		}
		for _, who := range []int{before, now} {
			if owners[who].Epoch == 0 {
				continue
			}
			err := appendAs(logs[who], owners[who], shards[who], fmt.Sprintf("%d by %d", round, who))
			if who == now && err != nil {
				t.Errorf("round %d: the owner: %v", round, err)
			}
			if who == before {
				wantKind(t, fmt.Sprintf("round %d: the owner of before", round), err, fault.Fenced)
				fenced++
			}
		}
	}
	count := 0
	each(t, k, shards[0], 0, func(v *record.View) {
		if want := fmt.Sprintf("%d by %d", count, count%2); string(v.Value) != want {
			t.Errorf("%q where %q is due", v.Value, want)
		}
		count++
	})
	if count != 6 || fenced != 5 {
		t.Errorf("%d units of owners, %d fenced", count, fenced)
	}
}

// appendAs appends a record as an owner and gives the error of the Append or of its receipt.
func appendAs(log stream.Keeper, owner stream.Owner, p stream.PartitionID, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	u := unit(stream.Write{Partition: p, Record: &record.Record{Value: []byte(value)}})
	u.Owner = owner
	done := make(answer, 1)
	if err := stream.AppendWait(ctx, log, u, done, 0); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is a receipt that gives the error.
type answer chan error

// Appended implements stream.Receipt.
func (a answer) Appended(_ uint64, _ stream.Placed, err error) { a <- err }

// elsewhere appends on one node and follows on another.
func elsewhere(t *testing.T, k *Kept) {
	k.needs(t, "Rival", k.Rival != nil)
	other := k.Rival()
	topic := create(t, other, "a", 2)
	here := seen(t, k, topic)
	h := newHeard()
	watch := k.Watch(h, stream.Followed)
	defer watch.Stop()
	watch.Follow(here.Partitions...)
	const units = 50
	r := newTold()
	for i := range units {
		v := record.Record{Value: fmt.Append(nil, i)}
		u := unit(stream.Write{Partition: topic.Partitions[i%2], Record: &v})
		if i%5 == 0 {
			u.Writes = append(u.Writes, stream.Write{Partition: topic.Partitions[(i+1)%2], Record: &v})
		}
		if err := stream.AppendWait(context.Background(), other, u, r, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	r.wait(t, units)
	for i, p := range here.Partitions {
		bounds, err := other.Bounds(topic.Partitions[i])
		if err != nil {
			t.Fatal(err)
		}
		h.await(t, p, bounds.Stable)
		last := -1
		each(t, k, p, 0, func(v *record.View) {
			var n int
			if _, err := fmt.Sscan(string(v.Value), &n); err != nil || n <= last {
				t.Errorf("%q behind %d", v.Value, last)
			}
			last = n
		})
		if last < units-2 {
			t.Errorf("partition %d ends with unit %d", i, last)
		}
	}
}
