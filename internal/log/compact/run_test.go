package compact

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
)

// rec is a record of a test: a key and a value, null if it is "-".
type rec struct{ key, value string }

func null(s string) []byte {
	if s == "-" {
		return nil
	}
	return []byte(s)
}

const born = 1_700_000_000_000

// batchOf makes a batch of an idempotent producer, or of none with -1.
func batchOf(t testing.TB, base record.Offset, codec record.Codec, producer int64, rs ...rec) record.Batch {
	t.Helper()
	var bu record.Builder
	bu.Reset(nil, born)
	if producer >= 0 {
		bu.SetProducer(producer, 0, int32(base))
	}
	for i, r := range rs {
		bu.Append(&record.Record{
			Timestamp: born + int64(base) + int64(i), Key: null(r.key), Value: null(r.value),
			Headers: []record.Header{{Key: "h", Value: null(r.value)}},
		})
	}
	b, err := bu.SealCompressed(base, 3, codec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show lists the records of a batch, and what is left of its header.
func show(t testing.TB, b record.Batch) string {
	t.Helper()
	if b == nil {
		return "gone"
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%d-%d:", b.BaseOffset(), b.LastOffset())
	if b.Attributes().DeleteHorizon() {
		out = fmt.Sprintf("horizon %d %s", b.BaseTimestamp(), out)
	}
	each(t, b, func(v *record.View) {
		value := "-"
		if v.Value != nil {
			value = string(v.Value)
		}
		if v.Timestamp != born+int64(v.Offset) {
			t.Errorf("offset %d: timestamp %d", v.Offset, v.Timestamp)
		}
		if h, ok := v.Header("h"); !ok || !bytes.Equal(h, v.Value) {
			t.Errorf("offset %d: header %q %v", v.Offset, h, ok)
		}
		out += fmt.Sprintf(" %d %s=%s", v.Offset, v.Key, value)
	})
	return out
}

func each(t testing.TB, b record.Batch, visit func(v *record.View)) {
	t.Helper()
	if b.Count() == 0 {
		return
	}
	var it record.Iter
	if err := it.Reset(b, &record.Scratch{}); err != nil {
		t.Fatal(err)
	}
	for v := (record.View{}); it.Next(&v); {
		visit(&v)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
}

// Long: most of it is the table.
func TestClean(t *testing.T) {
	a, b := rec{"a", "1"}, rec{"b", "1"}
	tests := []struct {
		name   string
		batch  []rec
		later  []rec // superseding records, from offset 100 on
		end    record.Offset
		now    int64
		newest record.Offset
		last   record.Offset
		want   string
	}{
		{"nothing newer", []rec{a, b}, nil, 200, 0, -1, 199, "10-11: 10 a=1 11 b=1"},
		{"one superseded", []rec{a, b}, []rec{a}, 200, 0, -1, 199, "10-11: 11 b=1"},
		{"the last superseded", []rec{a, b}, []rec{b}, 200, 0, -1, 199, "10-11: 10 a=1"},
		{"superseded within the batch", []rec{a, b, a}, nil, 200, 0, -1, 199, "10-12: 11 b=1 12 a=1"},
		{"all superseded", []rec{a, b}, []rec{b, a}, 200, 0, -1, 199, "gone"},
		{"all superseded, the last batch", []rec{a, b}, []rec{b, a}, 200, 0, -1, 11, "10-11:"},
		{"all superseded, the newest of its producer", []rec{a, b}, []rec{b, a}, 200, 0, 10, 199, "10-11:"},
		{"all superseded, an old one of its producer", []rec{a, b}, []rec{b, a}, 200, 0, 40, 199, "gone"},
		{"superseded by a tombstone", []rec{a, b}, []rec{{"a", "-"}}, 200, 0, -1, 199, "10-11: 11 b=1"},
		{"a tombstone", []rec{a, {"c", "-"}}, nil, 200, 500, -1, 199, "horizon 507 10-11: 10 a=1 11 c=-"},
		{"a superseded tombstone", []rec{a, {"c", "-"}}, []rec{{"c", "2"}}, 200, 500, -1, 199, "10-11: 10 a=1"},
		{"an empty key is a key", []rec{{"", "1"}, {"", "2"}}, nil, 200, 0, -1, 199, "10-11: 11 =2"},
		{"an empty value is no tombstone", []rec{{"a", ""}}, nil, 200, 0, -1, 199, "10-10: 10 a="},
		{"no key", []rec{{"-", "1"}, a}, nil, 200, 0, -1, 199, "10-11: 11 a=1"},
		{"behind the end", []rec{a, {"-", "1"}}, []rec{a}, 10, 0, -1, 199, "10-11: 10 a=1 11 =1"},
		{"over the end", []rec{a, b, a, {"c", "-"}, {"-", "1"}}, nil, 12, 0, -1, 199,
			"10-14: 11 b=1 12 a=1 13 c=- 14 =1"},
		{"retention for ever", []rec{{"c", "-"}}, nil, 200, math.MaxInt64 - 1, -1, 199,
			"horizon 9223372036854775807 10-10: 10 c=-"},
	}
	for _, tt := range tests {
		for codec := record.None; codec.Known(); codec++ {
			scratch := &record.Scratch{}
			offsets := NewOffsets(0, scratch)
			in := batchOf(t, 10, codec, 7, tt.batch...)
			in.SetLeaderEpoch(5)
			for _, b := range []record.Batch{in, batchOf(t, 100, codec, -1, append(tt.later, rec{"z", "1"})...)} {
				if end, full, err := offsets.Add(1, b); err != nil || full || end != b.LastOffset()+1 {
					t.Fatal(end, full, err)
				}
			}
			// another partition has the same keys, later
			if _, _, err := offsets.Add(2, batchOf(t, 150, codec, -1, a, b, rec{"c", "1"})); err != nil {
				t.Fatal(err)
			}
			before := bytes.Clone(in)
			run := Run{
				Partition: 1, Offsets: offsets, End: tt.end, Last: tt.last, Now: tt.now, DeleteRetention: 7,
				Newest: func(int64) record.Offset { return tt.newest }, Scratch: scratch,
			}
			out, err := run.Clean(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, out); got != tt.want {
				t.Errorf("%s, %v: %s, want %s", tt.name, codec, got, tt.want)
			}
			if !bytes.Equal(in, before) {
				t.Errorf("%s: the batch was changed in place", tt.name)
			}
			if out == nil {
				continue
			}
			if out.ProducerID() != 7 || out.BaseSequence() != in.BaseSequence() || out.LeaderEpoch() != 5 ||
				out.LastSequence() != in.LastSequence() || out.Count() > 0 && out.Attributes().Codec() != codec {
				t.Errorf("%s: header %x of %x", tt.name, out[:record.BatchOverhead], in[:record.BatchOverhead])
			}
		}
	}
}

// TestHorizon lets a tombstone go when its horizon is over, and not before, with all its batch else unchanged.
func TestHorizon(t *testing.T) {
	offsets := NewOffsets(0, nil)
	b := batchOf(t, 0, record.None, -1, rec{"a", "-"}, rec{"b", "1"})
	run := Run{Partition: 1, Offsets: offsets, End: 2, Last: 99, Now: 1000, DeleteRetention: 50}
	b, err := run.Clean(b)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Clone(b)
	for _, at := range []int64{1000, 1049} {
		run.Now = at
		same, err := run.Clean(b)
		if err != nil || !bytes.Equal(same, b) {
			t.Fatalf("at %d: %s %v", at, show(t, same), err)
		}
	}
	run.Now = 1050
	if b, err = run.Clean(b); err != nil || show(t, b) != "horizon 1050 0-1: 1 b=1" {
		t.Fatalf("%s %v", show(t, b), err)
	}
}

// TestPart leaves tombstones without a horizon where what is before them was not compacted along.
func TestPart(t *testing.T) {
	offsets := NewOffsets(0, nil)
	b := batchOf(t, 0, record.None, -1, rec{"b", "1"}, rec{"a", "-"}, rec{"b", "2"})
	if _, _, err := offsets.Add(1, b); err != nil {
		t.Fatal(err)
	}
	run := Run{Partition: 1, Offsets: offsets, End: 3, Last: 99, Now: 1000, DeleteRetention: 50, Part: true}
	if b, err := run.Clean(b); err != nil || show(t, b) != "0-2: 1 a=- 2 b=2" {
		t.Fatalf("%s %v", show(t, b), err)
	}
}

// inTxn is a batch of a transaction of a producer.
func inTxn(base record.Offset, producer int64, key, value string) record.Batch {
	var bu record.Builder
	bu.Reset(nil, born)
	bu.SetProducer(producer, 0, int32(base))
	bu.SetTransactional()
	bu.Append(&record.Record{Timestamp: born, Key: []byte(key), Value: []byte(value)})
	return bu.Seal(base, 3)
}

func markerAt(at record.Offset, producer int64, commit bool) record.Batch {
	b := record.NewMarker(producer, 0, 1, commit, born)
	b.SetBaseOffset(at)
	return b
}

// passes has the batches of a partition go through passes of compaction, one at each time; the producers in aborted
// have aborted all that they did. It tells after each the markers of empty transactions and which batches are left:
// with an h where a horizon is set, and a - where there is no record.
func passes(t *testing.T, run Run, batches []record.Batch, aborted []int64, times ...int64) (told []string) {
	t.Helper()
	for _, run.Now = range times {
		offsets := NewOffsets(0, nil)
		run.Partition, run.Offsets, run.open = 1, offsets, nil
		run.Aborted = func(b record.Batch) bool { return slices.Contains(aborted, b.ProducerID()) }
		var empty []record.Offset
		run.Emptied = func(at record.Offset) { empty = append(empty, at) }
		for _, b := range batches {
			if b.BaseOffset() < run.End {
				if _, _, err := run.Note(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		var left []record.Batch
		line := ""
		for _, b := range batches {
			b, err := run.Clean(b)
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				continue
			}
			b = bytes.Clone(b)
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
			left = append(left, b)
			line += fmt.Sprint(" ", b.BaseOffset())
			if b.Attributes().DeleteHorizon() {
				line += "h"
			}
			if b.Count() == 0 {
				line += "-"
			}
			if commit, ok := b.Marker(); ok && commit == slices.Contains(aborted, b.ProducerID()) {
				t.Errorf("the marker at %d is another one", b.BaseOffset())
			}
		}
		told, batches = append(told, fmt.Sprintf("%v%s", empty, line)), left
	}
	return told
}

// TestMarkers has the marker of a transaction stay as long as anything of it is there, and for the retention of
// tombstones then (KIP-534).
func TestMarkers(t *testing.T) {
	const good, bad = 1, 2
	never := func(int64) record.Offset { return -1 }
	committed := []record.Batch{
		inTxn(0, good, "a", "1"), markerAt(1, good, true), inTxn(2, good, "a", "2"), markerAt(3, good, true),
		inTxn(4, good, "b", "1"), markerAt(5, good, true),
	}
	mixed := []record.Batch{
		inTxn(0, bad, "a", "x"), inTxn(1, good, "a", "1"), markerAt(2, bad, false), markerAt(3, good, true),
		inTxn(4, good, "b", "1"), markerAt(5, good, true),
	}
	tests := []struct {
		name    string
		batches []record.Batch
		run     Run
		want    []string
	}{
		{"superseded", committed, Run{End: 6, Last: 5, Newest: never},
			[]string{"[1] 1h 2 3 4 5", "[1] 1h 2 3 4 5", "[1] 2 3 4 5"}},
		{"aborted", mixed, Run{End: 6, Last: 5, Newest: never},
			[]string{"[2] 1 2h 3 4 5", "[2] 1 2h 3 4 5", "[2] 1 3 4 5"}},
		{"aborted, the newest of its producer", mixed, Run{End: 6, Last: 5, Newest: func(id int64) record.Offset {
			return map[int64]record.Offset{bad: 0, good: 4}[id]
		}}, []string{"[] 0- 1 2 3 4 5", "[] 0- 1 2 3 4 5", "[] 0- 1 2 3 4 5"}},
		{"alone", mixed, Run{End: 6, Last: 5, Newest: never, Part: true},
			[]string{"[] 1 2 3 4 5", "[] 1 2 3 4 5", "[] 1 2 3 4 5"}},
		{"behind the end", mixed, Run{End: 2, Last: 5, Newest: never},
			[]string{"[] 1 2 3 4 5", "[] 1 2 3 4 5", "[] 1 2 3 4 5"}},
		{"the last batch", mixed[:3], Run{End: 3, Last: 2, Newest: never}, []string{"[2] 1 2h", "[2] 1 2h", "[2] 1 2-"}},
	}
	for _, tt := range tests {
		tt.run.DeleteRetention = 50
		got := passes(t, tt.run, tt.batches, []int64{bad}, born, born+49, born+50)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: left are\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

// TestFull ends the first half of a pass within a batch when the table is full, and still gets on.
func TestFull(t *testing.T) {
	offsets := NewOffsets(1, &record.Scratch{})
	rs := make([]rec, 3000)
	for i := range rs {
		rs[i] = rec{fmt.Sprintf("key %d", i), "v"}
	}
	end, full, err := offsets.Add(1, batchOf(t, 0, record.Zstd, -1, rs...))
	if err != nil || !full || end != leastSlots/4*3 || offsets.Len() != leastSlots/4*3 {
		t.Fatalf("end %d, full %v, %v", end, full, err)
	}
	if at, ok := offsets.Last(1, []byte("key 700")); !ok || at != 700 {
		t.Fatalf("%d %v", at, ok)
	}
	if _, ok := offsets.Last(1, []byte("key 800")); ok {
		t.Fatal("a key that found no room")
	}
	end, full, err = offsets.Add(1, batchOf(t, 5000, record.None, -1, rs[5], rs[6]))
	if end != 5002 || full || err != nil {
		t.Fatalf("a key that is there takes no room: %d %v %v", end, full, err)
	}
	offsets.Reset()
	if _, ok := offsets.Last(1, []byte("key 700")); ok || offsets.Len() != 0 {
		t.Fatal("not forgotten")
	}
}

// TestGrow puts in more keys than the first table holds.
func TestGrow(t *testing.T) {
	offsets := NewOffsets(1<<20, nil)
	const keys = 20_000
	for i := range record.Offset(2 * keys) {
		b := batchOf(t, i, record.None, -1, rec{fmt.Sprint(i % keys), "v"})
		if _, full, err := offsets.Add(9, b); full || err != nil {
			t.Fatal(i, full, err)
		}
	}
	for i := range record.Offset(keys) {
		if at, ok := offsets.Last(9, fmt.Append(nil, i)); !ok || at != keys+i {
			t.Fatalf("key %d: %d %v", i, at, ok)
		}
	}
	if len(offsets.slots)*slotBytes > 1<<20 {
		t.Fatalf("%d slots", len(offsets.slots))
	}
}

// TestModel compacts a random log again and again, with little memory, while it grows, and holds it to the rules of
// Kafka's LogCompactionTester: of each key the last record stays, with its offset, and nothing comes back or out of
// order.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 4))
		m := &model{t: t, rng: rng, scratch: &record.Scratch{}, newest: map[int64]record.Offset{}}
		for range 20 {
			m.write(1 + m.rng.IntN(300))
			m.pass()
			m.now += m.rng.Int64N(40)
			m.check()
		}
		for m.clean < m.next {
			m.pass()
		}
		m.check()
		if keys := m.distinct(); m.count() > keys {
			t.Errorf("seed %d: %d records of %d keys are left of a clean log", seed, m.count(), keys)
		}
	}
}

const (
	modelKeys      = 1200 // more than the least table has room for
	modelRetention = 100
)

// model is a partition in memory.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	scratch *record.Scratch
	batches []record.Batch
	next    record.Offset
	clean   record.Offset // below it the log was compacted
	now     int64
	newest  map[int64]record.Offset

	written []rec   // by offset
	deleted []int64 // when an offset was first seen compacted
}

func (m *model) write(batches int) {
	for range batches {
		rs := make([]rec, 1+m.rng.IntN(4))
		for i := range rs {
			rs[i] = rec{fmt.Sprint("k", int(math.Abs(m.rng.NormFloat64())*modelKeys)), fmt.Sprint(m.next, ".", i)}
			if m.rng.IntN(5) == 0 {
				rs[i].value = "-"
			}
		}
		producer := int64(m.rng.IntN(4) - 1)
		b := batchOf(m.t, m.next, record.Codec(m.rng.IntN(2)*2), producer, rs...)
		if producer >= 0 {
			m.newest[producer] = m.next
		}
		m.batches, m.written = append(m.batches, b), append(m.written, rs...)
		m.next += record.Offset(len(rs))
	}
}

// pass is one pass as the store makes it.
func (m *model) pass() {
	offsets := NewOffsets(0, m.scratch)
	end, full := m.clean, false
	for _, b := range m.batches {
		if b.LastOffset() < m.clean || full {
			continue
		}
		var err error
		if end, full, err = offsets.Add(3, b); err != nil {
			m.t.Fatal(err)
		}
	}
	run := Run{
		Partition: 3, Offsets: offsets, End: end, Last: m.next - 1, Now: m.now, DeleteRetention: modelRetention,
		Newest:  func(id int64) record.Offset { return m.newest[id] },
		Scratch: m.scratch,
	}
	var left []record.Batch
	for _, b := range m.batches {
		out, err := run.Clean(b)
		if err != nil {
			m.t.Fatal(err)
		}
		if out != nil {
			left = append(left, bytes.Clone(out))
		}
	}
	m.batches, m.clean = left, max(m.clean, end)
}

// check holds what is left to what was written.
func (m *model) check() {
	last := map[string]record.Offset{}
	for o, r := range m.written {
		last[r.key] = record.Offset(o)
	}
	next, left := record.Offset(0), map[record.Offset]bool{}
	kept := map[int64]record.Offset{}
	for _, b := range m.batches {
		if b.BaseOffset() < next {
			m.t.Fatalf("batch %d behind offset %d", b.BaseOffset(), next-1)
		}
		next = b.LastOffset() + 1
		if b.ProducerID() >= 0 {
			kept[b.ProducerID()] = b.BaseOffset()
		}
		each(m.t, b, func(v *record.View) {
			w := m.written[v.Offset]
			if string(v.Key) != w.key || !bytes.Equal(v.Value, null(w.value)) || (v.Value == nil) != (w.value == "-") ||
				v.Timestamp != born+int64(v.Offset) {
				m.t.Fatalf("offset %d is %s=%s, %v was written", v.Offset, v.Key, v.Value, w)
			}
			left[v.Offset] = true
		})
	}
	if next != m.next {
		m.t.Fatalf("the log ends at %d, want %d", next, m.next)
	}
	for producer, base := range m.newest {
		if kept[producer] != base {
			m.t.Fatalf("the newest batch of producer %d at %d is gone", producer, base)
		}
	}
	m.checkKeys(last, left)
}

// checkKeys looks that the last record of each key is there, unless it is a tombstone that had its time; and that
// where it is not, no older one is.
func (m *model) checkKeys(last map[string]record.Offset, left map[record.Offset]bool) {
	for len(m.deleted) < len(m.written) {
		m.deleted = append(m.deleted, math.MaxInt64)
	}
	for o := range m.clean {
		m.deleted[o] = min(m.deleted[o], m.now)
	}
	for o, w := range m.written {
		at := record.Offset(o)
		switch newest := last[w.key]; {
		case newest != at:
			if left[at] && !left[newest] {
				m.t.Fatalf("%v at %d is back: its tombstone at %d is gone", w, at, newest)
			}
		case left[at]:
		case w.value != "-":
			m.t.Fatalf("%v at %d is the last of its key and gone", w, at)
		case m.now-m.deleted[o] < modelRetention-80: // between two checks up to 40 ms pass, twice
			m.t.Fatalf("tombstone %v at %d went after %d ms", w, at, m.now-m.deleted[o])
		}
	}
}

func (m *model) distinct() int {
	keys := make([]string, 0, len(m.written))
	for _, r := range m.written {
		keys = append(keys, r.key)
	}
	slices.Sort(keys)
	return len(slices.Compact(keys))
}

func (m *model) count() (n int) {
	for _, b := range m.batches {
		n += int(b.Count())
	}
	return n
}
