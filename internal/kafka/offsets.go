package kafka

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// offsetsTopic holds the groups and their offsets, under the name and in the format of Kafka.
const offsetsTopic = "__consumer_offsets"

// topicIDHeader is the header of a committed offset that has the 16 bytes of its topic's id: an offset of a topic that
// was deleted is not one of the topic made later with its name. Key and value stay as Kafka's tools know them.
const topicIDHeader = "topic-id"

// partitionKey names a partition of a topic in the offsets of a group.
type partitionKey struct {
	topic string
	index int32
}

// committed is a committed offset as the fold has it.
type committed struct {
	group.Offset
	topicID record.UUID // of the topic that it was committed for: not of one made later with its name
}

// offsetChange sets or, without a value, removes one committed offset.
type offsetChange struct {
	key   partitionKey
	value *committed
}

// groupWrite is one atomic unit of records of a group on its way into the log.
type groupWrite struct {
	og       *ownedGroup
	offsets  []offsetChange
	snapshot *group.Snapshot // of a classic group: its own record
	changes  []group.Change  // records of the group itself
	seq      uint64          // of the group's Store that it is; 0: of none
	end      bool            // with changes: of the group itself nothing is left
	done     func(error)     // told the fate; must not block; nil: nobody waits
}

// endLocked makes a write remove all records of the group itself, which has been deleted.
func (og *ownedGroup) endLocked(w *groupWrite) {
	w.end = true
	for _, key := range og.mu.g.Keys() {
		w.changes = append(w.changes, group.Change{Key: key})
	}
}

// enqueueLocked hands a write to the writer; exit wakes it.
func (og *ownedGroup) enqueueLocked(w *groupWrite) {
	og.mu.queue = append(og.mu.queue, w)
	og.mu.flying[w] = struct{}{}
}

// offsetWriter appends the writes of all groups, each group's in their order, in one goroutine.
type offsetWriter struct {
	co    *coordinator
	awake chan struct{} // holds one: the queue is not empty

	encoded encoded     // the write that is appended
	failing atomic.Bool // the last write failed

	mu struct {
		sync.Mutex
		queue  []*ownedGroup // with something to write
		tasks  map[uint64]*groupWrite
		ticket uint64
		ended  bool // run has: what comes is refused
	}
}

func newOffsetWriter(co *coordinator) *offsetWriter {
	w := &offsetWriter{co: co, awake: make(chan struct{}, 1)}
	w.mu.tasks = map[uint64]*groupWrite{}
	return w
}

// wake says that a group has something to write. It does not block.
func (w *offsetWriter) wake(og *ownedGroup) {
	w.mu.Lock()
	w.mu.queue = append(w.mu.queue, og)
	ended := w.mu.ended
	w.mu.Unlock()
	if ended {
		w.flush(refuseWrite)
		return
	}
	select {
	case w.awake <- struct{}{}:
	default:
	}
}

// run appends until ctx ends; what is queued then is refused.
func (w *offsetWriter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.mu.ended = true
			w.mu.Unlock()
			w.flush(refuseWrite)
			return
		case <-w.awake:
			w.flush(func(gw *groupWrite) error { return w.append(ctx, gw) })
		}
	}
}

func refuseWrite(*groupWrite) error { return fault.New(fault.Closed, "kafka.group", "the door closes") }

// flush does away with all that is queued.
func (w *offsetWriter) flush(do func(*groupWrite) error) {
	w.mu.Lock()
	groups := w.mu.queue
	w.mu.queue = nil
	w.mu.Unlock()
	for _, og := range groups {
		og.mu.Lock()
		writes := og.mu.queue
		og.mu.queue = nil
		og.mu.Unlock()
		for _, gw := range writes {
			err := error(fault.New(fault.Internal, "kafka.group", "the write broke"))
			w.co.guarded("write of a group", func() { err = do(gw) })
			if err != nil {
				w.co.guarded("end of a write of a group", func() { w.co.wrote(gw, err) })
			}
		}
	}
}

// append puts one write into the log. An error means that no receipt will come.
func (w *offsetWriter) append(ctx context.Context, gw *groupWrite) error {
	p, err := w.partition(ctx)
	if err != nil {
		return err
	}
	defer w.encoded.reset()
	if err := w.encoded.add(gw, w.co.now()); err != nil {
		return err
	}
	w.mu.Lock()
	w.mu.ticket++
	ticket := w.mu.ticket
	w.mu.tasks[ticket] = gw
	w.mu.Unlock()
	if err := stream.AppendWait(ctx, w.co.log, &stream.Unit{Writes: w.encoded.to(p)}, w, ticket); err != nil {
		w.take(ticket)
		return err
	}
	return nil
}

func (w *offsetWriter) take(ticket uint64) *groupWrite {
	w.mu.Lock()
	defer w.mu.Unlock()
	gw := w.mu.tasks[ticket]
	delete(w.mu.tasks, ticket)
	return gw
}

// Appended is the receipt of the log: from here on the write counts. It comes in the order of the
// log, so that the fold in memory is what a restart would read.
func (w *offsetWriter) Appended(ticket uint64, _ stream.Placed, err error) {
	if gw := w.take(ticket); gw != nil {
		w.co.guarded("receipt of a group", func() { w.co.wrote(gw, err) })
	}
}

// partition is where the groups are stored; the topic is made when the first group is asked for.
func (w *offsetWriter) partition(ctx context.Context) (stream.PartitionID, error) {
	t, err := stream.EnsureState(ctx, w.co.log, offsetsTopic)
	if err != nil {
		return 0, err
	}
	return t.Partitions[0], nil
}

// encoded is the records of writes, in memory that can be used again once they are appended.
type encoded struct {
	bytes   []byte // of keys and values; those of the first records may lie in a smaller piece, which it outgrew
	headers []record.Header
	records []record.Record
	writes  []stream.Write
}

// reset forgets the records, and memory that a large write took.
func (e *encoded) reset() {
	if cap(e.bytes) > keepBuffer {
		*e = encoded{}
	}
	e.bytes, e.headers, e.records, e.writes = e.bytes[:0], e.headers[:0], e.records[:0], e.writes[:0]
}

// to is the records as writes of a partition. It is valid until the next reset.
func (e *encoded) to(p stream.PartitionID) []stream.Write {
	for i := range e.records {
		e.writes = append(e.writes, stream.Write{Partition: p, Record: &e.records[i]})
	}
	return e.writes
}

// appended is what encode has put behind bytes; nil if that failed.
func (e *encoded) appended(encode func([]byte) ([]byte, error)) ([]byte, error) {
	from := len(e.bytes)
	b, err := encode(e.bytes)
	if err != nil {
		return nil, err
	}
	e.bytes = b
	return b[from:len(b):len(b)], nil
}

// add encodes a write. Errors: Invalid, when a name is too long for the format.
func (e *encoded) add(gw *groupWrite, now int64) error {
	for i := range gw.offsets {
		if err := e.offset(gw.og.id, &gw.offsets[i], now); err != nil {
			return err
		}
	}
	changes := gw.changes
	if gw.snapshot != nil {
		own := group.Change{Key: group.Key{Kind: group.KindClassic, Group: gw.og.id}, Value: group.GroupValue(gw.snapshot)}
		changes = append(slices.Clip(changes), own)
	}
	for i := range changes {
		key, err := e.appended(changes[i].Key.Append)
		if err != nil {
			return err
		}
		e.records = append(e.records, record.Record{Timestamp: now, Key: key, Value: changes[i].Value})
	}
	return nil
}

// offset encodes a committed offset, or the end of one.
func (e *encoded) offset(id string, ch *offsetChange, now int64) (err error) {
	r := record.Record{Timestamp: now}
	key := group.Key{Group: id, Topic: ch.key.topic, Partition: ch.key.index}
	if r.Key, err = e.appended(key.AppendOffset); err != nil {
		return err
	}
	if ch.value != nil {
		if r.Value, err = e.appended(ch.value.Append); err != nil {
			return err
		}
		n := len(e.headers)
		e.headers = append(e.headers, record.Header{Key: topicIDHeader, Value: ch.value.topicID[:]})
		r.Headers = e.headers[n : n+1 : n+1]
	}
	e.records = append(e.records, r)
	return nil
}

// wrote ends a write: applied if it is durable, else as if it had not been asked for. It is called in
// the order of the log, from the log's goroutine too, and does not block.
func (co *coordinator) wrote(gw *groupWrite, err error) {
	og := gw.og
	if gw.done != nil {
		defer func() { gw.done(err) }()
	}
	og.mu.Lock()
	delete(og.mu.flying, gw)
	if err == nil {
		og.applyLocked(gw)
	} else if gw.end && og.mu.g.IsDead() {
		og.mu.g.Revive(co.now())
	}
	if gw.seq != 0 {
		co.act(og, func(g membership) []group.Effect { return g.Stored(co.now(), gw.seq, err) })
	} else {
		co.release(og)
	}
	co.writer.report(og, err)
}

// report logs that writes fail, and that they work again, once each.
func (w *offsetWriter) report(og *ownedGroup, err error) {
	switch {
	case err == nil:
		if w.failing.Swap(false) {
			w.co.opt.Logger.Info("group: writes to " + offsetsTopic + " work again")
		}
	case !fault.Is(err, fault.Closed) && !w.failing.Swap(true):
		w.co.opt.Logger.Warn("group: a write to "+offsetsTopic+" failed", "group", og.id, "error", err)
	}
}

// applyLocked folds a durable write in.
func (og *ownedGroup) applyLocked(gw *groupWrite) {
	og.mu.metadata += og.grownLocked(gw.offsets)
	for _, ch := range gw.offsets {
		if ch.value == nil {
			delete(og.mu.offsets, ch.key)
		} else {
			og.mu.offsets[ch.key] = *ch.value
		}
	}
	if gw.seq != 0 {
		og.mu.stored = true
	}
	if gw.end {
		og.mu.stored = false
	}
}

// grownLocked is by how many bytes changes make the metadata of committed offsets more. Each is of another partition.
func (og *ownedGroup) grownLocked(changes []offsetChange) (n int64) {
	for _, ch := range changes {
		if og.mu.metadata > 0 { // few commit any
			n -= int64(len(og.mu.offsets[ch.key].Metadata))
		}
		if ch.value != nil {
			n += int64(len(ch.value.Metadata))
		}
	}
	return n
}

// flyingLocked are the partitions whose offsets are being written.
func (og *ownedGroup) flyingLocked() map[partitionKey]struct{} {
	keys := map[partitionKey]struct{}{}
	for gw := range og.mu.flying {
		for _, ch := range gw.offsets {
			keys[ch.key] = struct{}{}
		}
	}
	return keys
}

// keysLocked are the partitions that the group has offsets of, or will when what flies has landed.
func (og *ownedGroup) keysLocked() map[partitionKey]struct{} {
	keys := og.flyingLocked()
	for key := range og.mu.offsets {
		keys[key] = struct{}{}
	}
	return keys
}

// landing makes a write tell its fate through the function that it gives, which waits for it. Errors: those of the
// log; Closed.
func (co *coordinator) landing(gw *groupWrite) (landed func(context.Context) error) {
	done := make(chan error, 1)
	gw.done = func(err error) { done <- err }
	return func(ctx context.Context) error {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fault.Wrap(fault.Closed, "kafka.group", ctx.Err())
		case <-co.ended:
			return fault.New(fault.Closed, "kafka.group", "the door closes")
		}
	}
}
