package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// foldBytes is how much of the topic is read at a time.
const foldBytes = 1 << 20

// folder gathers the last record of each key of __consumer_offsets.
type folder struct {
	co      *coordinator
	offsets map[string]map[partitionKey]committed
	groups  map[string][]byte // the value of the group's own record
	scratch record.Scratch
	strange int // records that could not be understood
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

func (f *folder) partition(ctx context.Context, p stream.PartitionID) error {
	bounds, err := f.co.log.Bounds(p)
	if err != nil {
		return err
	}
	var batches []record.Batch
	for at := bounds.Start; at < bounds.High; {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Closed, "kafka.group", err)
		}
		batches, err = f.co.log.Read(p, at, foldBytes, batches[:0])
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			return fault.New(fault.Corrupt, "kafka.group", "%s ends at offset %d, before its high watermark %d",
				offsetsTopic, at, bounds.High)
		}
		for _, b := range batches {
			if err := f.batch(b); err != nil {
				return err
			}
			at = b.LastOffset() + 1
		}
	}
	return nil
}

func (f *folder) batch(b record.Batch) error {
	if b.Attributes().Control() {
		return nil
	}
	var it record.Iter
	var v record.View
	if err := it.Reset(b, &f.scratch); err != nil {
		return err
	}
	for it.Next(&v) {
		f.record(&v)
	}
	return it.Err()
}

// record folds one record in. One that is not understood is left alone: it is of another kind of
// group, or of a version from the future.
func (f *folder) record(v *record.View) {
	key, known, err := group.DecodeKey(v.Key)
	if err != nil || !known {
		f.strange++
		return
	}
	if key.Topic == "" {
		if v.Value == nil {
			delete(f.groups, key.Group)
		} else {
			f.groups[key.Group] = append([]byte(nil), v.Value...)
		}
		return
	}
	at := partitionKey{key.Topic, key.Partition}
	if v.Value == nil {
		delete(f.offsets[key.Group], at)
		return
	}
	offset, err := group.DecodeOffset(v.Value)
	if err != nil {
		f.strange++
		return
	}
	if f.offsets[key.Group] == nil {
		f.offsets[key.Group] = map[partitionKey]committed{}
	}
	f.offsets[key.Group][at] = committed{Offset: offset, topicID: f.topicID(key.Topic)}
}

// topicID is the id of the topic that has the name now. A topic that is gone has the zero id, and the
// first sweep removes its offsets.
func (f *folder) topicID(name string) record.UUID {
	if t := f.co.log.Topics().ByName(name); t != nil {
		return t.ID
	}
	return record.UUID{}
}

// build makes the groups of what was gathered.
func (f *folder) build() {
	now, opts := f.co.now(), f.co.limits.ofGroup()
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
	}
}
