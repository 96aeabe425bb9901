package cluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// data has n records from an offset on, by a producer with a transaction if there is one.
func data(base record.Offset, n int, producer int64) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	if producer > 0 {
		bu.SetProducer(producer, 0, 0)
	}
	for i := range n {
		bu.Append(&record.Record{Timestamp: 1000, Value: fmt.Append(nil, int64(base)+int64(i))})
	}
	b := bu.Seal(base, 0)
	if producer > 0 {
		const attributes, checksum, transactional = 22, 17, 1 << 4
		b[attributes] |= transactional
		crc := b.ComputeCRC()
		b[checksum], b[checksum+1], b[checksum+2], b[checksum+3] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
	}
	return b
}

// marker ends a transaction.
func marker(at record.Offset, producer int64, commit bool) record.Batch {
	b := record.NewMarker(producer, 0, 0, commit, 1000)
	b.SetBaseOffset(at)
	return b
}

func spoiled(b record.Batch) record.Batch {
	b[len(b)-1] ^= 1
	return b
}

// walk is what a broker sends for an offset, and what a scan makes of it.
type walk struct {
	name      string
	batches   []record.Batch
	aborted   map[int64][]int64 // by producer: where transactions begin
	from, end record.Offset
	want      []record.Offset
	next      record.Offset
	damage    record.Offset // where it ends; 0: there is none
}

// walks is the table of them. Long: it is a table.
func walks() []walk {
	cut := func(b record.Batch) record.Batch { return b[:len(b)-3] }
	return []walk{
		{name: "nothing", from: 3, end: 9, next: 9},
		{name: "plain", batches: []record.Batch{data(0, 2, 0), data(2, 1, 0)}, end: 3,
			want: []record.Offset{0, 1, 2}, next: 3},
		{name: "from the middle", batches: []record.Batch{data(0, 4, 0)}, from: 2, end: 4,
			want: []record.Offset{2, 3}, next: 4},
		{name: "an end in the middle", batches: []record.Batch{data(0, 4, 0), data(4, 4, 0)}, end: 2,
			want: []record.Offset{0, 1}, next: 2},
		{name: "an end in a gap", batches: []record.Batch{data(0, 1, 0), data(8, 1, 0)}, end: 5,
			want: []record.Offset{0}, next: 5},
		{name: "a gap before", batches: []record.Batch{data(7, 1, 0)}, from: 3, end: 9,
			want: []record.Offset{7}, next: 8},
		{name: "a batch before the offset", batches: []record.Batch{data(0, 3, 0), data(3, 1, 0)}, from: 3, end: 4,
			want: []record.Offset{3}, next: 4},
		{name: "a piece of a batch", batches: []record.Batch{data(0, 1, 0), cut(data(1, 1, 0))}, end: 2,
			want: []record.Offset{0}, next: 1},
		{name: "a piece of a header", batches: []record.Batch{data(0, 1, 0), data(1, 1, 0)[:20]}, end: 2,
			want: []record.Offset{0}, next: 1},
		{name: "committed", batches: []record.Batch{data(0, 2, 7), marker(2, 7, true), data(3, 1, 0)}, end: 4,
			want: []record.Offset{0, 1, 3}, next: 4},
		{name: "aborted", batches: []record.Batch{data(0, 2, 7), marker(2, 7, false), data(3, 1, 0)}, end: 4,
			aborted: map[int64][]int64{7: {0}}, want: []record.Offset{3}, next: 4},
		{name: "aborted, then committed, by one producer", end: 6, aborted: map[int64][]int64{7: {0}},
			batches: []record.Batch{data(0, 2, 7), marker(2, 7, false), data(3, 2, 7), marker(5, 7, true)},
			want:    []record.Offset{3, 4}, next: 6},
		{name: "aborted twice", end: 6, aborted: map[int64][]int64{7: {3, 0}},
			batches: []record.Batch{data(0, 2, 7), marker(2, 7, false), data(3, 2, 7), marker(5, 7, false)}, next: 6},
		{name: "committed, then aborted", end: 6, aborted: map[int64][]int64{7: {3}},
			batches: []record.Batch{data(0, 2, 7), marker(2, 7, true), data(3, 2, 7), marker(5, 7, false)},
			want:    []record.Offset{0, 1}, next: 6},
		{name: "two producers", end: 6, aborted: map[int64][]int64{7: {0}}, want: []record.Offset{1}, next: 5,
			batches: []record.Batch{data(0, 1, 7), data(1, 1, 8), data(2, 1, 7), marker(3, 8, true), marker(4, 7, false)}},
		{name: "an aborted one that began before", from: 2, end: 4, aborted: map[int64][]int64{7: {0}},
			batches: []record.Batch{data(2, 1, 7), marker(3, 7, false)}, next: 4},
		{name: "damage", batches: []record.Batch{data(0, 1, 0), spoiled(data(1, 3, 0)), data(4, 1, 0)}, end: 5,
			want: []record.Offset{0}, next: 1, damage: 4},
		{name: "damage before a gap", batches: []record.Batch{spoiled(data(1, 3, 0)), data(8, 1, 0)}, from: 1, end: 9,
			next: 1, damage: 8},
		{name: "damage at the end", batches: []record.Batch{spoiled(data(1, 3, 0))}, from: 1, end: 9,
			next: 1, damage: 4},
		{name: "damage, and what it says cannot be", batches: []record.Batch{spoiled(data(1, 30, 0))}, from: 1, end: 9,
			next: 1, damage: 2},
	}
}

func TestWalk(t *testing.T) {
	for _, c := range walks() {
		t.Run(c.name, func(t *testing.T) { c.check(t) })
	}
}

func (c *walk) check(t *testing.T) {
	sc := &scan{}
	var aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
	for id, firsts := range c.aborted {
		for _, first := range firsts {
			aborted = append(aborted, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: id, FirstOffset: first})
		}
	}
	sc.abort(aborted)
	var bytes []byte
	for _, b := range c.batches {
		bytes = append(bytes, b...)
	}
	var seen []record.Offset
	next, err := sc.walk(bytes, c.from, c.end, func(v *record.View) bool {
		if string(v.Value) != fmt.Sprint(v.Offset) {
			t.Errorf("%q at %d", v.Value, v.Offset)
		}
		seen = append(seen, v.Offset)
		return true
	})
	var d *stream.Damage
	if errors.As(err, &d) != (c.damage > 0) || err != nil && d == nil {
		t.Fatal(err)
	}
	if d != nil && (d.From != next || d.Next != c.damage) {
		t.Errorf("damage %d to %d, want %d to %d", d.From, d.Next, next, c.damage)
	}
	if !slices.Equal(seen, c.want) || next != c.next {
		t.Errorf("visited %v, goes on at %d; want %v, %d", seen, next, c.want, c.next)
	}
	if len(c.want) > 0 {
		stop := c.want[len(c.want)-1]
		sc.abort(aborted)
		next, err := sc.walk(bytes, c.from, c.end, func(v *record.View) bool { return v.Offset != stop })
		if next != stop || err != nil {
			t.Errorf("stopped at %d: next %d, %v", stop, next, err)
		}
	}
}
