package kafka

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/stream"
)

// shareTopic holds the states of share partitions; docs/format/share-groups.md has the format.
const shareTopic = "__share_group_state"

const (
	shareKeyVersion = 1
	shareSlots      = 63  // deltas that may follow a snapshot
	smallState      = 512 // bytes: a snapshot that is not larger is always written whole
	mostLetters     = 500 // dead letters in one write
	retryMillis     = 1000
)

// written is how far the state of a share partition was written. Its lock is that of the partition.
type written struct {
	base     uint64 // number of the last snapshot
	slot     int    // deltas since then
	slots    int    // the highest slot that the log may have
	dirty    bool   // there is something to write
	underWay bool   // a write is, or the writer was told
	failed   bool   // the last one: the next is a snapshot
	ended    bool   // the log has the end of it: nothing is written any more
}

// appendKey is the key of a record of a share partition.
func (k *shareKey) appendKey(b []byte, slot int) []byte {
	b = append(b, shareKeyVersion)
	b = binary.AppendUvarint(b, uint64(len(k.group)))
	b = append(b, k.group...)
	b = append(b, k.topic[:]...)
	b = binary.AppendUvarint(b, uint64(k.index))
	return binary.AppendUvarint(b, uint64(slot))
}

// parseShareKey reads it. Errors: Corrupt, Unsupported.
func parseShareKey(b []byte) (k shareKey, slot int, err error) {
	const op = "kafka.shares"
	if len(b) == 0 || b[0] != shareKeyVersion {
		return k, 0, fault.New(fault.Unsupported, op, "a key of %d bytes that is of no known version", len(b))
	}
	rest := b[1:]
	take := func(most uint64) uint64 {
		n, width := binary.Uvarint(rest)
		if width <= 0 || n > most {
			err = fault.New(fault.Corrupt, op, "a key of %d bytes that is cut short", len(b))
			return 0
		}
		rest = rest[width:]
		return n
	}
	size := take(uint64(len(rest)))
	if err != nil || size+uint64(len(k.topic)) > uint64(len(rest)) {
		return k, 0, fault.New(fault.Corrupt, op, "a key of %d bytes that is cut short", len(b))
	}
	k.group = string(rest[:size])
	rest = rest[size:]
	rest = rest[copy(k.topic[:], rest):]
	k.index = int32(take(1<<31 - 1))
	slot = int(take(shareSlots))
	if err == nil && len(rest) > 0 {
		err = fault.New(fault.Corrupt, op, "a key of %d bytes that is too long", len(b))
	}
	return k, slot, err
}

// foldedShare is a share partition while the log is read.
type foldedShare struct {
	q     *share.Queue
	epoch uint32
	written
}

// fold reads all of __share_group_state into memory. Errors: Corrupt, IO.
func (s *shares) fold(ctx context.Context) error {
	topic := s.log.Topics().ByName(shareTopic)
	if topic == nil || len(topic.Partitions) == 0 {
		return nil
	}
	bounds, err := s.log.Bounds(topic.Partitions[0])
	if err != nil {
		return err
	}
	all := map[shareKey]*foldedShare{}
	folded, err := stream.Fold(ctx, s.log, topic.Partitions[0], bounds.Start, func(v *record.View) error {
		key, slot, err := parseShareKey(v.Key)
		if err != nil {
			return err
		}
		f := all[key]
		if f == nil {
			f = &foldedShare{}
			all[key] = f
		}
		return f.take(slot, v.Value)
	})
	if err == nil && (folded.Lost > 0 || folded.Strange > 0) {
		err = fault.New(fault.Corrupt, "kafka.shares", "%d records are lost and %d not understood: %w",
			folded.Lost, folded.Strange, folded.First)
	}
	if err != nil {
		return fault.New(fault.KindOf(err), "kafka.shares", "cannot read %s: %w", shareTopic, err).
			WithHint("run firth log check to see what is damaged")
	}
	for key, f := range all {
		s.adopt(key, f)
	}
	return nil
}

// take takes in the next record of a share partition.
func (f *foldedShare) take(slot int, value []byte) error {
	f.slots = max(f.slots, slot)
	if value == nil {
		if slot == 0 {
			f.q = nil
		}
		return nil
	}
	saved, err := share.ParseSaved(value)
	switch {
	case err != nil:
		return err
	case !saved.Delta:
		f.q, f.epoch, f.base, f.slot = saved.Restore(), saved.Epoch, saved.Base, 0
	case f.q != nil && saved.Base == f.base:
		f.q.Apply(saved)
		f.slot = slot
	}
	return nil
}

// adopt takes over a share partition that the log has. One of a topic that is gone is removed by the first sweep.
func (s *shares) adopt(key shareKey, f *foldedShare) {
	if f.q == nil {
		return
	}
	var id stream.PartitionID
	if t := s.log.Topics().ByID(key.topic); t != nil && int(key.index) < len(t.Partitions) {
		id = t.Partitions[key.index]
	}
	p := newSharePart(key, id, f.q)
	p.mu.epoch, p.mu.written, p.mu.set = f.epoch, f.written, true
	s.countLocked(p) // nobody else has it yet
	s.mu.parts[key] = p
}

// changedLocked has the state of a share partition written, as it is when its turn comes.
func (s *shares) changedLocked(p *sharePart) {
	w := &p.mu.written
	if w.ended {
		p.tellLocked(nil)
		return
	}
	w.dirty = true
	if !w.underWay {
		w.underWay = s.writer.enqueue(p)
	}
	if !w.underWay {
		p.tellLocked(errClosing)
	}
}

// tellLocked tells who waits for the next write that there will be none.
func (p *sharePart) tellLocked(err error) {
	for _, told := range p.mu.waiting {
		told(err)
	}
	p.mu.waiting = nil
}

var errClosing = fault.New(fault.Closed, "kafka.shares", "the door closes")

// landingLocked gives a function that waits for the fate of the next write that begins. Errors: those of the log;
// Closed.
func (p *sharePart) landingLocked() (landed func(context.Context) error) {
	done := make(chan error, 1)
	p.mu.waiting = append(p.mu.waiting, func(err error) { done <- err })
	return func(ctx context.Context) error {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fault.Wrap(fault.Closed, "kafka.shares", ctx.Err())
		}
	}
}

// shareWriter writes the states of share partitions, in one goroutine.
type shareWriter struct {
	s     *shares
	awake chan struct{} // holds one: the queue is not empty

	mu struct {
		sync.Mutex
		queue []*sharePart
		ended bool // run has: what comes is refused
	}
}

func newShareWriter(s *shares) *shareWriter { return &shareWriter{s: s, awake: make(chan struct{}, 1)} }

// enqueue has a share partition written. It does not block. It is false if nothing is written any more.
func (w *shareWriter) enqueue(p *sharePart) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.ended {
		return false
	}
	w.mu.queue = append(w.mu.queue, p)
	select {
	case w.awake <- struct{}{}:
	default:
	}
	return true
}

// run writes until ctx ends; what is to be written then is refused.
func (w *shareWriter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.mu.ended = true
			left := w.mu.queue
			w.mu.queue = nil
			w.mu.Unlock()
			for _, p := range left {
				p.mu.Lock()
				p.mu.written.underWay = false
				p.tellLocked(errClosing)
				p.mu.Unlock()
			}
			return
		case <-w.awake:
		}
		w.mu.Lock()
		queue := w.mu.queue
		w.mu.queue = nil
		w.mu.Unlock()
		for _, p := range queue {
			err := error(fault.New(fault.Internal, "kafka.shares", "the write broke"))
			u := &shareWrite{s: w.s, p: p}
			w.s.groups.guarded("write of a share partition", func() { err = u.begin(ctx) })
			if err != nil {
				w.s.groups.guarded("end of a write of a share partition", func() { u.end(err) })
			}
		}
	}
}

// shareWrite is one write of a share partition: a receipt.
type shareWrite struct {
	s    *shares
	p    *sharePart
	told []func(error)
	dead []share.Dead // that are done with it
	sent int          // dead letters in it
	gone bool         // it removes the state
}

// begin puts the state as it is now into the log, with the dead letters that it makes. An error means that no receipt
// will come.
func (u *shareWrite) begin(ctx context.Context) error {
	p := u.p
	topic, err := stream.EnsureState(ctx, u.s.log, shareTopic)
	p.mu.Lock()
	u.told, p.mu.waiting = p.mu.waiting, nil
	u.gone = p.mu.gone
	dead := p.mu.q.Dead(mostLetters)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	unit := &stream.Unit{}
	if len(dead) > 0 && !u.gone {
		if err := u.s.letters(ctx, p, dead, unit); err != nil {
			return err
		}
	}
	u.dead, u.sent = dead, len(unit.Writes)
	for _, r := range u.records() {
		unit.Writes = append(unit.Writes, stream.Write{Partition: topic.Partitions[0], Record: r})
	}
	u.s.metrics.writes.Inc()
	return stream.AppendWait(ctx, u.s.log, unit, u, 0)
}

// records are those of the state as it is now.
func (u *shareWrite) records() []*record.Record {
	p := u.p
	now := u.s.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.mu.written
	w.dirty = false
	if u.gone {
		var all []*record.Record
		for slot := range w.slots + 1 {
			all = append(all, &record.Record{Timestamp: now, Key: p.appendKey(nil, slot)})
		}
		return all
	}
	form := share.Form{Base: w.base + 1, Epoch: p.mu.epoch, Dead: u.dead}
	slot := 0
	if w.base > 0 && !w.failed && w.slot < shareSlots && p.mu.q.Runs() > smallState/3 {
		slot = w.slot + 1
		form.Delta, form.Base = true, w.base
	}
	r := &record.Record{Timestamp: now, Key: p.appendKey(nil, slot), Value: p.mu.q.AppendTo(nil, form)}
	w.base, w.slot, w.slots = form.Base, slot, max(w.slots, slot)
	u.s.countLocked(p) // what is done with and written was cleared away
	return []*record.Record{r}
}

// Appended is the receipt of the log.
func (u *shareWrite) Appended(_ uint64, _ stream.Placed, err error) {
	u.s.groups.guarded("receipt of a share partition", func() { u.end(err) })
}

// end tells the fate of a write to who waits for it, and begins the next one if there is something to write.
func (u *shareWrite) end(err error) {
	s, p := u.s, u.p
	left := int64(0) // of memory that it takes no more
	p.mu.Lock()
	w := &p.mu.written
	w.underWay, w.failed = false, err != nil
	switch {
	case err != nil: // and with it what was acknowledged since it began
		p.mu.q.Written(false)
		u.told, p.mu.waiting = append(u.told, p.mu.waiting...), nil
		w.dirty = true
		s.alarms.Set(p, s.now()+retryMillis)
		s.watchLocked(p)
	case u.gone:
		w.ended = true
		left, p.mu.counted = p.mu.counted, 0
	default:
		p.mu.set = true
		p.mu.q.Written(true)
		p.mu.q.Bury(u.dead)
		s.metrics.letters.With("written").Add(float64(u.sent))
	}
	if w.dirty && !w.failed || len(p.mu.waiting) > 0 {
		s.changedLocked(p)
	}
	p.mu.Unlock()
	if w.ended {
		s.mu.Lock()
		if s.mu.parts[p.shareKey] == p {
			delete(s.mu.parts, p.shareKey)
		}
		s.mu.Unlock()
		s.groups.budget.keep(-left)
		s.alarms.Cancel(p)
	}
	for _, told := range u.told {
		told(err)
	}
}
