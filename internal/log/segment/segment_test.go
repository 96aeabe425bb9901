package segment

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
)

// batch makes one of n records with values of size bytes, all of topic.
func batch(base record.Offset, n, size int) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1_700_000_000_000)
	for i := range n {
		bu.Append(&record.Record{
			Timestamp: 1_700_000_000_000 + int64(base) + int64(i),
			Key:       fmt.Appendf(nil, "k%d", int(base)+i),
			Value:     bytes.Repeat([]byte{byte(base) + byte(i)}, size),
		})
	}
	return bu.Seal(base, 3)
}

// oneTopic gives a single topic name.
func oneTopic(name string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) { yield([]byte(name)) }
}

// fill writes a segment with the batches of each partition.
func fill(t testing.TB, fs vfs.FS, name string, data map[uint32][]record.Batch) *Segment {
	t.Helper()
	w, err := Create(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	parts := make([]uint32, 0, len(data))
	for p := range data {
		parts = append(parts, p)
	}
	slices.Sort(parts)
	for _, p := range parts {
		for i, b := range data[p] {
			if err := w.Append(p, b, oneTopic(fmt.Sprintf("t/%d/%d", p, i%3))); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range abortedIn(data[p]) {
			w.Aborted(a)
		}
	}
	s, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// abortedIn makes an aborted transaction for each batch.
func abortedIn(batches []record.Batch) (all []Aborted) {
	for i, b := range batches {
		at := b.LastOffset()
		if at == 0 {
			continue // a marker has something before it
		}
		all = append(all, Aborted{ProducerID: int64(1000 + i%3), First: batches[0].BaseOffset(), Last: at, Stable: at})
	}
	return all
}

// aborts lists the aborted transactions of a partition whose markers are at an offset or behind it.
func aborts(s *Segment, p uint32, from record.Offset) (all []Aborted, err error) {
	err = s.Aborts(p, from, func(a Aborted) bool {
		all = append(all, a)
		return true
	})
	return all, err
}

// same tells whether both are the same batches, byte for byte.
func same(a, b []record.Batch) bool {
	return slices.EqualFunc(a, b, func(x, y record.Batch) bool { return bytes.Equal(x, y) })
}

// readAll reads all batches of a partition.
func readAll(s *Segment, p uint32) ([]record.Batch, error) {
	es, err := s.Extents(p)
	if err != nil {
		return nil, err
	}
	var all []record.Batch
	for _, e := range es {
		if all, err = s.Read(e, all); err != nil {
			return all, err
		}
	}
	return all, nil
}

// smallBatches is how many batches small has of each of its three partitions.
const smallBatches = 5

func small() map[uint32][]record.Batch {
	data := map[uint32][]record.Batch{}
	for _, p := range []uint32{0, 7, 4_000_000_000} {
		next := record.Offset(p % 100)
		for i := range smallBatches {
			b := batch(next, 1+i, 10*i)
			data[p] = append(data[p], b)
			next = b.LastOffset() + 1 + record.Offset(i%2) // with gaps, as after compaction
		}
	}
	return data
}

func wantAll(t *testing.T, s *Segment, data map[uint32][]record.Batch) {
	t.Helper()
	if len(s.Summaries()) != len(data) {
		t.Fatalf("%d runs, want %d", len(s.Summaries()), len(data))
	}
	for p, want := range data {
		got, err := readAll(s, p)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, want) {
			t.Fatalf("partition %d: %d batches, want %d", p, len(got), len(want))
		}
		sum, ok := s.Summary(p)
		if !ok || sum.Base != want[0].BaseOffset() || sum.Last != want[len(want)-1].LastOffset() ||
			sum.MaxTime != want[len(want)-1].MaxTimestamp() || sum.Bytes != int64(len(slices.Concat(want...))) {
			t.Fatalf("partition %d: summary %+v", p, sum)
		}
	}
}

func TestRollUp(t *testing.T) {
	fs := vfs.NewMemory()
	data := small()
	s := fill(t, fs, "1.segment", data)
	wantAll(t, s, data)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(fs, "1.segment")
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, s, data)
	names, err := s.Names(7)
	if want := listed("t/7/0", "t/7/1", "t/7/2"); err != nil || names == nil ||
		!reflect.DeepEqual(names.chapters[0].data, want.chapters[0].data) {
		t.Fatalf("names %+v %v, want %+v", names, err, want)
	}
	if left, err := fs.List("."); err != nil || !slices.Equal(left, []string{"1.segment"}) {
		t.Fatalf("files %q %v", left, err)
	}
}
