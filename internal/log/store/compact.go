package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/compact"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// The housekeeper picks what is compacted and puts the result in place; the cleaner, a goroutine of its own, reads and
// writes. There is one pass at a time. See docs/design/0005-compaction.md.

const (
	// cleanStep is about how many bytes the cleaner goes through before it looks whether to rest.
	cleanStep = 256 << 10
	// cleanSync is how many bytes it writes before it syncs them: a large sync at the end would hold commits up.
	cleanSync = 4 << 20
	// promiseKept is how long a file stays readable when its batches were compacted into another one, since a fetch
	// last promised bytes of it.
	promiseKept = 30 * time.Second
)

// pass is one pass of compaction over some partitions.
type pass struct {
	id     fileID // of the next file to write; as many as it reads are kept for it
	parts  []*cleanPart
	files  []*file // that it reads, acquired
	made   []made
	err    error
	spoilt *cleanPart // what could not be read
}

// cleanPart is a partition in a pass.
type cleanPart struct {
	p *partition.Partition
	partition.Cleanable
	settings *stream.Settings
	now      int64
	newest   newest
}

// made is a file that a pass has written.
type made struct {
	id      fileID
	segment *segment.Segment
	runs    []madeRun
}

// madeRun is what it stands for of one partition.
type madeRun struct {
	p    *partition.Partition
	read []partition.Span
}

// cleaner reads and writes for a pass. One goroutine.
type cleaner struct {
	s       *Store
	passes  chan *pass // to do; closed when the housekeeper ends
	offsets *compact.Offsets
	scratch record.Scratch
	groups  uint64 // the number of the newest commit group when it looked last

	naming Naming          // of the file in hand
	writer *segment.Writer // the file in hand; nil: none was begun
	file   made
}

// cleanLoop is the cleaner's goroutine.
func (c *cleaner) cleanLoop() {
	c.offsets = compact.NewOffsets(c.s.opt.DedupeBytes, &c.scratch)
	for ps := range c.passes {
		began := time.Now()
		ps.err = c.run(ps)
		c.offsets.Reset()
		c.s.metrics.compaction.Observe(time.Since(began).Seconds())
		c.s.housekeeper.cleaned(ps)
	}
}

// cleaned takes a pass back from the cleaner.
func (k *housekeeper) cleaned(ps *pass) {
	k.mu.Lock()
	k.mu.cleaned = ps
	k.mu.Unlock()
	k.wake()
}

// compact puts the result of a pass in its place and begins the next, if one is due.
func (k *housekeeper) compact() error {
	k.mu.Lock()
	ps := k.mu.cleaned
	k.mu.cleaned = nil
	k.mu.Unlock()
	if ps != nil {
		k.cleaning = nil
		if err := k.install(ps); err != nil {
			return err
		}
	}
	if k.cleaning == nil && k.shredding == 0 && !k.s.closing() && !time.Now().Before(k.cleanAfter) {
		if k.cleaning = k.pick(); k.cleaning != nil {
			k.cleaner.passes <- k.cleaning
		}
	}
	return nil
}

// pick plans a pass over what is due, the dirtiest first, or returns nil.
func (k *housekeeper) pick() *pass {
	now := k.s.opt.Clock().UnixMilli()
	var due []*cleanPart
	for _, p := range *k.s.parts.Load() {
		if p == nil || k.spoilt[p.ID] || k.putOff[p.ID].waits() {
			continue
		}
		if c, ok := p.Cleanable(now); ok {
			due = append(due, &cleanPart{p: p, Cleanable: c, settings: p.Settings(), now: now})
		}
	}
	slices.SortFunc(due, func(a, b *cleanPart) int { return cmp.Compare(b.Ratio(), a.Ratio()) })
	ps, bytes := &pass{}, int64(0)
	for _, pt := range due {
		if size := pt.CleanBytes + pt.DirtyBytes; len(ps.parts) > 0 && bytes+size > k.s.opt.SegmentBytes {
			break
		}
		if ps.add(pt, k.frozen) {
			bytes += pt.CleanBytes + pt.DirtyBytes
		}
	}
	if len(ps.parts) == 0 {
		return nil
	}
	if err := k.s.haveRoom(bytes); err != nil {
		ps.release()
		k.cleanAfter = time.Now().Add(k.s.opt.RetentionInterval)
		return nil // appends are refused for the same reason, which is logged
	}
	slices.SortFunc(ps.parts, func(a, b *cleanPart) int { return cmp.Compare(a.p.ID, b.p.ID) })
	for _, pt := range ps.parts {
		pt.newest = k.s.newestOf(pt.p)
	}
	ps.id = k.nextID(ps.id.number)
	k.newest[ps.id.number] += uint32(len(ps.files) - 1)
	return ps
}

// add takes a partition into a pass, with its files. It is false if one of them stays as it is or is on its way out.
func (ps *pass) add(pt *cleanPart, frozen uint64) bool {
	had := len(ps.files)
	for i := range pt.Spans {
		f := pt.Spans[i].File.(*file) //nolint:errcheck // the files of a store are its own
		if f.number <= frozen || !f.Acquire() {
			for _, f := range ps.files[had:] {
				f.Release()
			}
			ps.files = ps.files[:had]
			return false
		}
		ps.files = append(ps.files, f)
	}
	for _, f := range ps.files[had:] {
		ps.id.number = max(ps.id.number, f.number)
	}
	ps.parts = append(ps.parts, pt)
	return true
}

func (ps *pass) release() {
	for _, f := range ps.files {
		f.Release()
	}
	ps.files = nil
}

// reads tells whether a pass reads a file: then it must not be replaced.
func (ps *pass) reads(f *file) bool { return ps != nil && slices.Contains(ps.files, f) }

// newest is the base offset of the newest durable batch of each idempotent producer.
type newest map[int64]record.Offset

func (s *Store) newestOf(p *partition.Partition) newest {
	producers := s.stateOf(p).Producers
	bases := make(newest, len(producers))
	for i := range producers { // those of one, oldest first
		bases[producers[i].ID] = producers[i].Sent.Base
	}
	return bases
}

func (n newest) of(id int64) record.Offset {
	if base, ok := n[id]; ok {
		return base
	}
	return -1
}

// install makes the files that a pass has written those of its partitions. What they replace is let go of after a
// while.
func (k *housekeeper) install(ps *pass) error {
	defer ps.release()
	for _, m := range ps.made {
		f, used := newSegmentFile(k.s, m.id, m.segment), false
		for _, run := range m.runs {
			if sum, ok := m.segment.Summary(uint32(run.p.ID)); ok {
				used = run.p.Cover(partition.SpanOf(sum, f), run.read) || used
			}
		}
		k.files[f.fileID] = f
		if !used {
			k.retire(f, true)
		}
	}
	switch {
	case ps.err == nil:
		for _, pt := range ps.parts {
			delete(k.putOff, pt.p.ID)
		}
		return k.reclaim()
	case fault.Is(ps.err, fault.Closed):
		return nil
	case ps.spoilt != nil && (fault.Is(ps.err, fault.Corrupt) || fault.Is(ps.err, fault.TooLarge)):
		k.spoilt[ps.spoilt.p.ID] = true
		k.s.reportCorrupt(ps.spoilt.p.ID, ps.spoilt.Spans[0].Base, ps.err)
		return k.reclaim()
	}
	if ps.spoilt != nil && ofItself(ps.err) { // others have their turn before it
		l := k.putOff[ps.spoilt.p.ID]
		l.failed(k.s.opt.RetentionInterval)
		k.putOff[ps.spoilt.p.ID] = l
	}
	k.cleanAfter = time.Now().Add(k.s.opt.RetentionInterval)
	return fault.New(fault.KindOf(ps.err), "store.Compact", "%w", ps.err)
}

// lingering is a file that nobody needs but who was promised bytes of it.
type lingering struct {
	file  *file
	until time.Time
}

// releaseLingering releases the files whose time has come.
func (k *housekeeper) releaseLingering(now time.Time) {
	k.lingering = slices.DeleteFunc(k.lingering, func(l lingering) bool {
		due := !now.Before(l.until)
		if due {
			l.file.Release()
		}
		return due
	})
}

// closeCompaction ends what there is of compaction when the log closes: a pass that is done counts when the log is
// opened again.
func (k *housekeeper) closeCompaction() (errs []error) {
	k.mu.Lock()
	ps := k.mu.cleaned
	k.mu.cleaned = nil
	k.mu.Unlock()
	if ps != nil {
		for _, m := range ps.made {
			errs = append(errs, m.segment.Close())
		}
		ps.release()
	}
	for _, l := range k.lingering {
		l.file.Release()
	}
	k.lingering = nil
	return errs
}

// run does a pass. What it has made up to an error is good.
func (c *cleaner) run(ps *pass) error {
	c.naming = nil
	if c.s.opt.Naming != nil {
		c.naming = c.s.opt.Naming()
	}
	for _, pt := range ps.parts {
		if err := c.part(ps, pt); err != nil {
			ps.spoilt = pt
			c.giveUp()
			return err
		}
	}
	return c.finish(ps)
}

// giveUp leaves the file in hand.
func (c *cleaner) giveUp() {
	if c.writer != nil {
		c.writer.Abort()
	}
	c.writer, c.file = nil, made{}
}

// finish ends the file in hand.
func (c *cleaner) finish(ps *pass) error {
	if c.writer == nil {
		return nil
	}
	seg, err := c.writer.Finish()
	if err == nil {
		c.file.segment = seg
		ps.made = append(ps.made, c.file)
	}
	c.writer, c.file = nil, made{}
	return err
}

// part compacts one partition.
func (c *cleaner) part(ps *pass, pt *cleanPart) error {
	aborted, err := pt.p.Hidden(pt.Spans[0].Base, pt.End)
	if err != nil {
		return err
	}
	run := &compact.Run{
		Partition: uint32(pt.p.ID), Offsets: c.offsets, Now: pt.now, DeleteRetention: pt.settings.DeleteRetentionMs,
		Part: pt.Part, Newest: pt.newest.of, Aborted: aborted.Hides, Scratch: &c.scratch,
	}
	end, err := c.note(pt, run)
	if err != nil {
		return err
	}
	spans := pt.Spans
	// A table that is full ends the pass where a file does, unless it is the first dirty one.
	for n := len(spans) - 1; n > 0 && end <= spans[n].Last && spans[n].Base > pt.Dirty; n-- {
		end, spans = min(end, spans[n].Base), spans[:n]
	}
	run.End = end
	for len(spans) > 0 {
		n, size := 1, spans[0].Bytes
		for n < len(spans) && size+spans[n].Bytes <= c.s.opt.SegmentBytes {
			size += spans[n].Bytes
			n++
		}
		if err := c.write(ps, run, pt.p, spans[:n]); err != nil {
			return err
		}
		spans = spans[n:]
	}
	c.s.metrics.compacted.Add(float64(run.Removed))
	return nil
}

// note is the first half: it notes the keys of what is dirty, as far as there is room. It returns the offset behind.
func (c *cleaner) note(pt *cleanPart, run *compact.Run) (end record.Offset, err error) {
	c.offsets.Reset()
	end = pt.Dirty
	for _, span := range pt.Spans {
		if span.Last < pt.Dirty {
			continue
		}
		full := false
		err := c.each(pt.p.ID, span, pt.Dirty, func(b record.Batch) error {
			if full || b.LastOffset() < pt.Dirty {
				return nil
			}
			var err error
			end, full, err = run.Note(b)
			return err
		})
		if err != nil || full {
			return end, err
		}
	}
	return end, nil
}

// write is the second half, for some spans: it writes what stays of them as one run.
func (c *cleaner) write(ps *pass, run *compact.Run, p *partition.Partition, spans []partition.Span) error {
	last := &spans[len(spans)-1]
	about := segment.Compacted{Base: spans[0].Base, Gaps: run.End, Clean: min(run.End, last.Last+1)}
	if had := last.Compacted; had != nil {
		about.Gaps = max(about.Gaps, had.Gaps)
	}
	about.Gaps = min(about.Gaps, last.Last+1)
	if run.Part {
		about.Clean = about.Base
	}
	if err := c.begin(ps, p); err != nil {
		return err
	}
	if err := c.writer.Compact(run.Partition, about); err != nil {
		return err
	}
	c.file.runs = append(c.file.runs, madeRun{p: p, read: spans})
	run.Last = last.Last
	var empty []record.Offset // ascending
	run.Emptied = func(marker record.Offset) { empty = append(empty, marker) }
	place := c.s.Topics().Place(p.ID)
	for _, span := range spans {
		err := c.each(p.ID, span, span.Base, func(b record.Batch) error {
			b, err := run.Clean(b)
			if err != nil || b == nil {
				return err
			}
			return c.writer.Append(run.Partition, b, topicNames(c.naming, place, b, &c.scratch))
		})
		if err != nil {
			return err
		}
	}
	for i := range spans {
		err := p.AbortsOf(&spans[i], spans[i].Base, func(a partition.Aborted) {
			if _, gone := slices.BinarySearch(empty, a.Last); !gone {
				c.writer.Aborted(a)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// begin opens a file, unless there is one in hand that has room and nothing of the partition yet.
func (c *cleaner) begin(ps *pass, p *partition.Partition) error {
	if n := len(c.file.runs); n > 0 && (c.file.runs[n-1].p == p || c.writer.Size() >= c.s.opt.SegmentBytes) {
		if err := c.finish(ps); err != nil {
			return err
		}
	}
	if c.writer != nil {
		return nil
	}
	w, err := segment.Create(c.s.fs, segmentName(ps.id))
	if err != nil {
		return err
	}
	c.file.id = ps.id
	ps.id.generation++
	w.SyncEvery(cleanSync)
	if c.naming != nil {
		w.ByMapping(c.naming.Fingerprint())
	}
	c.writer = w
	return nil
}

// each visits the batches of a span from an offset on, and rests in between. The batches hold until it returns.
func (c *cleaner) each(
	id stream.PartitionID, span partition.Span, from record.Offset, visit func(b record.Batch) error,
) error {
	extents, err := span.File.Extents(id)
	if err != nil {
		return err
	}
	for len(extents) > 0 && extents[0].Last < from {
		extents = extents[1:]
	}
	var batches []record.Batch
	for len(extents) > 0 {
		began := time.Now()
		n, size := 1, int(extents[0].Len)
		for n < len(extents) && size+int(extents[n].Len) <= cleanStep {
			size += int(extents[n].Len)
			n++
		}
		if batches, err = span.File.Read(id, extents[:n], size, batches[:0]); err != nil {
			return err
		}
		for _, b := range batches {
			if err := visit(b); err != nil {
				return err
			}
		}
		extents = extents[n:]
		if err := c.rest(time.Since(began)); err != nil {
			return err
		}
	}
	return nil
}

// rest waits as long as a step took, if there was a commit meanwhile: who commits goes first.
// Errors: Closed, when the log closes.
func (c *cleaner) rest(worked time.Duration) error {
	c.s.mu.Lock()
	groups, closing := c.s.mu.groups, c.s.mu.closing
	c.s.mu.Unlock()
	if closing {
		return fault.New(fault.Closed, "store.Compact", "the log is closing")
	}
	busy := groups != c.groups
	if c.groups = groups; !busy {
		return nil
	}
	timer := time.NewTimer(worked)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.s.closes:
	}
	return nil
}
