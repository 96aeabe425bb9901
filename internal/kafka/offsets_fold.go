package kafka

import (
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
	groups  map[string][]byte // the value of the group's own record
	strange int64             // records that could not be understood
}

// fold reads all of __consumer_offsets into memory. Errors: Corrupt, IO: what was committed cannot
// be told, and to guess would let offsets go back.
func (co *coordinator) fold(ctx context.Context) error {
	topic := co.log.Topics().ByName(offsetsTopic)
	if topic == nil {
		return nil
	}
	f := &folder{co: co, offsets: map[string]map[partitionKey]committed{}, groups: map[string][]byte{}}
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
	if key.Topic == "" {
		if v.Value == nil {
			delete(f.groups, key.Group)
		} else {
			f.groups[key.Group] = append([]byte(nil), v.Value...)
		}
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
	now, opts := f.co.now(), f.co.ofGroup()
	for id, value := range f.groups {
		snapshot, err := group.DecodeGroup(value)
		if err != nil {
			f.strange++
			continue
		}
		og := newOwned(id, group.Load(id, opts, now, snapshot))
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
			og = newOwned(id, group.New(id, opts, 0))
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
