package kafka

import (
	"bytes"
	"context"
	"errors"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// folder gathers the last record of each key of __consumer_offsets.
type folder struct {
	co      *coordinator
	offsets map[string]map[partitionKey]committed
	groups  map[string]*own
	strange int64 // records that could not be understood
}

// own are the records of a group itself.
type own struct {
	records map[group.Key][]byte
	since   int64 // when the one of a consumer group's epoch was written
}

// fold reads all of __consumer_offsets into memory. Errors: Corrupt, IO: what was committed cannot
// be told, and to guess would let offsets go back.
func (co *coordinator) fold(ctx context.Context) error {
	topic := co.log.Topics().ByName(offsetsTopic)
	if topic == nil {
		return nil
	}
	f := &folder{co: co, offsets: map[string]map[partitionKey]committed{}, groups: map[string]*own{}}
	for _, p := range topic.Partitions {
		if err := f.partition(ctx, p); err != nil {
			return fault.New(fault.KindOf(err), "kafka.group", "cannot read %s: %w", offsetsTopic, err).
				WithHint("run firth log check to see what is damaged")
		}
	}
	f.build()
	if f.strange > 0 {
		co.opt.Logger.Warn("group: records of "+offsetsTopic+" were not understood and left alone", "records", f.strange)
	}
	return nil
}

// partition folds one partition. A hole in it is an error: what was committed there cannot be told.
func (f *folder) partition(ctx context.Context, p stream.PartitionID) error {
	bounds, err := f.co.log.Bounds(p)
	if err != nil {
		return err
	}
	folded, err := stream.Fold(ctx, f.co.log, p, bounds.Start, f.record)
	if err != nil {
		return err
	}
	f.strange += folded.Strange
	if folded.Lost > 0 {
		return fault.New(fault.Corrupt, "kafka.group", "%d records are lost: %w", folded.Lost, folded.First)
	}
	return nil
}

// errStrange is of a record that is left alone: it is of another kind of group, or of a version from the future.
var errStrange = errors.New("a record of another kind or version")

// record folds one record in.
func (f *folder) record(v *record.View) error {
	key, known, err := group.DecodeKey(v.Key)
	if err != nil || !known {
		return errStrange
	}
	if key.Kind != group.KindOffset {
		f.own(&key, v)
		return nil
	}
	at := partitionKey{key.Topic, key.Partition}
	if v.Value == nil {
		delete(f.offsets[key.Group], at)
		return nil
	}
	offset, err := group.DecodeOffset(v.Value)
	if err != nil {
		return err
	}
	if f.offsets[key.Group] == nil {
		f.offsets[key.Group] = map[partitionKey]committed{}
	}
	id := f.topicID(key.Topic)
	if written, is := v.Header(topicIDHeader); is && len(written) == len(id) {
		copy(id[:], written)
	}
	f.offsets[key.Group][at] = committed{Offset: offset, topicID: id}
	return nil
}

// own folds a record of a group itself in.
func (f *folder) own(key *group.Key, v *record.View) {
	of := f.groups[key.Group]
	switch {
	case v.Value == nil && of != nil:
		delete(of.records, *key)
	case v.Value != nil && of == nil:
		of = &own{records: map[group.Key][]byte{}}
		f.groups[key.Group] = of
		fallthrough
	case v.Value != nil:
		of.records[*key] = bytes.Clone(v.Value)
		if key.Kind == group.KindConsumer || key.Kind == group.KindStreams {
			of.since = v.Timestamp
		}
	}
}

// topicID is the id of the topic that has the name now, for an offset that was written without one. A topic that is
// gone has the zero id, and the first sweep removes its offsets.
func (f *folder) topicID(name string) record.UUID {
	if t := f.co.log.Topics().ByName(name); t != nil {
		return t.ID
	}
	return record.UUID{}
}

// build makes the groups of what was gathered.
func (f *folder) build() {
	now := f.co.now()
	for id, of := range f.groups {
		g := f.load(id, of, now)
		if g == nil {
			continue
		}
		og := newOwned(id, g)
		og.mu.stored = true
		f.co.mu.groups[id] = og
		if next := og.mu.g.Next(); next != 0 {
			f.co.alarms.Set(og, next)
		}
	}
	for id, offsets := range f.offsets {
		if len(offsets) == 0 {
			continue
		}
		og := f.co.mu.groups[id]
		if og == nil { // never had a member: a group that only holds offsets
			og = newOwned(id, group.New(id, f.co.ofGroup(id), 0))
			f.co.mu.groups[id] = og
		}
		og.mu.offsets = offsets
		for _, c := range offsets {
			og.mu.metadata += int64(len(c.Metadata))
		}
	}
	for _, og := range f.co.mu.groups {
		og.mu.counted = og.bytesLocked()
		f.co.budget.keep(og.mu.counted)
	}
}

// load makes the members of a group of its records; nil: there are none that can be understood.
func (f *folder) load(id string, of *own, now int64) membership {
	if len(of.records) == 0 {
		return nil
	}
	if value, is := of.records[group.Key{Kind: group.KindClassic, Group: id}]; is {
		snapshot, err := group.DecodeGroup(value)
		if err != nil {
			f.strange++
			return nil
		}
		return group.Load(id, f.co.ofGroup(id), now, snapshot)
	}
	if value, is := of.records[group.Key{Kind: group.KindShare, Group: id}]; is {
		g, ok := group.LoadShare(id, f.co.ofGroup(id), now, value)
		if !ok {
			f.strange++
			return nil
		}
		return g
	}
	var g membership
	var strange int
	var err error
	if _, is := of.records[group.Key{Kind: group.KindStreams, Group: id}]; is {
		g, strange, err = group.LoadStreams(id, f.co.ofGroup(id), now, of.since, of.records)
	} else {
		g, strange, err = group.LoadConsumer(id, f.co.ofGroup(id), now, of.since, of.records)
	}
	f.strange += int64(strange)
	if err != nil {
		f.strange += int64(len(of.records))
		return nil
	}
	return g
}
