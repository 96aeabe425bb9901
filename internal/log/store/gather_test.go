package store

import (
	"testing"

	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// TestToldNames: names are told for what is left of a partition if each record of it came with one, by one mapping,
// and once.
func TestToldNames(t *testing.T) {
	name := func(mapping uint64, topic string) *stream.Name {
		return &stream.Name{Mapping: mapping, Topic: []byte(topic)}
	}
	const mapping = 7
	a, b, other := name(mapping, "a"), name(mapping, "b"), name(mapping+1, "a")
	built := func(base int) segment.Extent {
		return segment.Extent{Base: record.Offset(base), Last: record.Offset(base + 9), Len: 100}
	}
	type batch struct {
		extent segment.Extent
		names  []*stream.Name
	}
	one := []*stream.Name{a}
	both := []segment.Extent{built(0), built(10)}
	came := segment.Of(idempotent(t), 0)
	for _, c := range []struct {
		what    string
		batches []batch
		left    []segment.Extent
		want    bool
	}{
		{"all", []batch{{built(0), one}, {built(10), []*stream.Name{a, b}}}, both, true},
		{"what was trimmed", []batch{{built(0), one}, {built(10), []*stream.Name{b}}}, both[1:], true},
		{"a record without", []batch{{built(0), []*stream.Name{a, nil}}}, both[:1], false},
		{"another mapping", []batch{{built(0), []*stream.Name{other}}}, both[:1], false},
		{"two mappings", []batch{{built(0), one}, {built(10), []*stream.Name{other}}}, both, false},
		{"a producer's batch", []batch{{built(0), one}, {came, nil}}, both[:1], false},
		{"what was there before", []batch{{built(10), one}}, both, false},
		{"what was not told", []batch{{built(0), one}}, both, false},
	} {
		var j journalNames
		for _, b := range c.batches {
			j.add(3, &b.extent, b.names)
		}
		pt := part{p: partition.New(3, stream.Settings{}), extents: c.left}
		if got := j.take(pt, mapping); (got != nil) != c.want {
			t.Errorf("%s: told %v, want %v", c.what, got != nil, c.want)
		}
		if j.take(pt, mapping) != nil {
			t.Errorf("%s: told again", c.what)
		}
	}
}

// TestToldNamesAreBounded tells more names than are kept: they are given up, and the memory with them.
func TestToldNamesAreBounded(t *testing.T) {
	var j journalNames
	for id := range stream.PartitionID(4) {
		for i := range 200_000 {
			topic := []byte{byte(id), '/', byte(i), byte(i >> 8), byte(i >> 16)}
			e := segment.Extent{Base: record.Offset(i), Last: record.Offset(i), Len: 30}
			j.add(id, &e, []*stream.Name{{Mapping: 1, Topic: topic}})
			if j.held > maxGathered {
				t.Fatalf("%d bytes are held after %d names of partition %d", j.held, i, id)
			}
		}
	}
	if j.parts[0].lost || !j.parts[1].lost {
		t.Error("who came first is not kept, or who came then is")
	}
}

// idempotent is a batch of a producer that numbers its batches.
func idempotent(t *testing.T) record.Batch {
	t.Helper()
	var bu record.Builder
	bu.Reset(nil, 0)
	bu.SetProducer(1, 0, 0)
	bu.Append(&record.Record{Value: []byte("v")})
	return bu.Seal(10, 0)
}
