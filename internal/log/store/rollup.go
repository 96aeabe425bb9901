package store

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/compact"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/shred"
	"github.com/firthmq/firth/internal/log/stream"
)

// part is what one partition has in a file.
type part struct {
	p       *partition.Partition
	extents []segment.Extent // those that still hold readable records
	span    partition.Span
	shred   *shred.Run // what goes of it when it is copied; nil: nothing
}

// partsIn lists what all partitions have in a file, by id, and how many bytes and batches that is. With
// extents read from segments, batches counts extents.
func (s *Store) partsIn(f *file) (parts []part, bytes int64, batches int, err error) {
	for _, p := range *s.parts.Load() {
		if p == nil {
			continue
		}
		span, ok := p.In(f)
		if !ok {
			continue
		}
		extents := span.Extents
		if extents == nil {
			if extents, err = f.Extents(p.ID); err != nil {
				return nil, 0, 0, err
			}
		}
		bounds, err := p.Bounds()
		if err != nil {
			continue // deleted meanwhile
		}
		for len(extents) > 0 && extents[0].Last < bounds.Start {
			extents = extents[1:]
		}
		for _, e := range extents {
			bytes += int64(e.Len)
		}
		batches += len(extents)
		if len(extents) > 0 {
			parts = append(parts, part{p: p, extents: extents, span: span})
		}
	}
	return parts, bytes, batches, nil
}

// sealed turns the journals that are full into segments, oldest first. A checkpoint comes first: a segment has the
// batches of a journal, but neither its trims nor its reservations, nor does it say where a journal before it ended.
// One that fails is passed over and tried again later: it must not hold up those behind it.
func (k *housekeeper) sealed() error {
	files := k.dueJournals()
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		k.files[f.fileID] = f
	}
	if err := k.takeCheckpoint(); err != nil {
		k.requeue(files...)
		k.caughtUp(0, true)
		if fault.Is(err, fault.Closed) {
			return nil
		}
		return err
	}
	for i, f := range files {
		if f.number <= k.frozen {
			k.converted(f)
			continue
		}
		err := k.convert(f)
		switch {
		case fault.Is(err, fault.Corrupt):
			k.s.opt.Logger.Error("the log is damaged; a full journal stays as it is", "file", f.name, "error", err,
				"hint", fault.HintOf(err))
			k.converted(f)
		case ofItself(err):
			k.passOver(f, err)
		case err != nil:
			k.requeue(files[i:]...)
			k.caughtUp(0, true)
			return err
		default:
			k.converted(f)
		}
		if err := k.clear(); err != nil { // before the next takes as much of the disk
			k.requeue(files[i+1:]...)
			k.caughtUp(0, true)
			return err
		}
	}
	return nil
}

// dueJournals takes the full journals that are to be made segments now.
func (k *housekeeper) dueJournals() (due []*file) {
	k.mu.Lock()
	files := k.mu.sealed
	k.mu.sealed = nil
	k.mu.Unlock()
	var wait []*file
	for _, f := range files {
		switch {
		case f.gone:
			k.converted(f)
		case f.later.waits():
			wait = append(wait, f)
		default:
			due = append(due, f)
		}
	}
	k.requeue(wait...)
	return due
}

// passOver puts a journal off that could not be made a segment. The first of some is an error, those beside it tell
// nothing new.
func (k *housekeeper) passOver(f *file, err error) {
	if f.later.failed(k.s.opt.RetentionInterval) {
		k.mu.Lock()
		k.mu.stuck++
		level := slog.LevelError
		if k.mu.stuck > 1 {
			level = slog.LevelWarn
		}
		k.mu.Unlock()
		k.s.opt.Logger.Log(context.Background(), level,
			"housekeeping of the log failed: a full journal stays as it is and is tried again, others go on",
			"file", f.name, "error", err, "hint", fault.HintOf(err))
		k.caughtUp(1, false)
	}
	k.requeue(f)
}

// converted is told that a journal waits no longer.
func (k *housekeeper) converted(f *file) {
	if f.later.tries == 0 {
		k.caughtUp(1, false)
		return
	}
	k.mu.Lock()
	k.mu.stuck--
	k.mu.Unlock()
	k.s.opt.Logger.Info("a full journal that was tried again waits no longer", "file", f.name)
}

// requeue puts journals back to be converted at a later turn.
func (k *housekeeper) requeue(files ...*file) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.sealed = append(k.mu.sealed, files...)
	slices.SortFunc(k.mu.sealed, byID)
}

// convert makes segments of a sealed journal: what has to be compacted gets a file of its own, what is left one that
// is sorted if its batches are small, or stays in place if they are large.
func (k *housekeeper) convert(f *file) error {
	k.useNaming()
	parts, _, _, err := k.s.partsIn(f)
	if err != nil {
		return err
	}
	compacted, parts := split(parts)
	if len(compacted) > 0 {
		id := f.fileID // the last file of a journal gets this name: with it, the journal is done
		if len(parts) > 0 {
			id = k.nextID(f.number)
		}
		if err := k.rollUp(f, compacted, id); err != nil {
			return err
		}
	}
	w := weight(parts)
	switch {
	case w.batches == 0:
		k.drop(f)
		return nil
	case f.journal != nil && !f.broken && w.mean() >= k.s.opt.BulkBatchBytes:
		return k.keepInPlace(f, parts)
	}
	if err := k.rollUp(f, parts, f.fileID); err != nil {
		return err
	}
	k.drop(f)
	return nil
}

// split takes apart what has to be compacted.
func split(parts []part) (compacted, others []part) {
	for _, pt := range parts {
		if pt.p.Settings().Compact {
			compacted = append(compacted, pt)
		} else {
			others = append(others, pt)
		}
	}
	return compacted, others
}

// weighed is how many bytes there are in how many batches.
type weighed struct{ bytes, batches int64 }

func (w *weighed) add(bytes int) {
	w.bytes += int64(bytes)
	w.batches++
}

// mean is the mean size of a batch; 0 without any.
func (w *weighed) mean() int64 { return w.bytes / max(w.batches, 1) }

// weight is that of all parts.
func weight(parts []part) (w weighed) {
	for _, pt := range parts {
		for i := range pt.extents {
			w.add(int(pt.extents[i].Len))
		}
	}
	return w
}

// drop lets go of a file in which nothing is left.
func (k *housekeeper) drop(f *file) {
	k.leaveOut(f)
	k.retire(f, true)
}

// leaveOut has all partitions forget a file of which they need nothing more.
func (k *housekeeper) leaveOut(f *file) {
	for _, p := range *k.s.parts.Load() {
		if p != nil {
			p.Replace(f, nil, nil)
		}
	}
}

// nextID is a name of a number that no file had: that of the next generation.
func (k *housekeeper) nextID(number uint64) fileID {
	k.newest[number]++
	return fileID{number: number, generation: k.newest[number]}
}

// retire lets go of a file, once.
func (k *housekeeper) retire(f *file, remove bool) {
	if f.gone {
		return
	}
	f.gone = true
	if k.files[f.fileID] == f {
		delete(k.files, f.fileID)
	}
	if f.remove = remove; remove {
		k.retired[f] = struct{}{}
	}
	if until := time.Unix(0, f.promised.Load()).Add(promiseKept); time.Now().Before(until) {
		k.lingering = append(k.lingering, lingering{file: f, until: until})
		return
	}
	f.Release()
}

// keepInPlace writes a footer behind the last frame: the data is not written again.
func (k *housekeeper) keepInPlace(f *file, parts []part) error {
	s := k.s
	ix := make(segment.Index, 0, len(parts))
	for _, pt := range parts {
		run := segment.Run{Partition: uint32(pt.p.ID), Extents: pt.extents, Names: k.nameRun(f, pt)}
		if err := pt.aborts(run.Aborts.Add); err != nil {
			return err
		}
		ix = append(ix, run)
	}
	name := segmentName(f.fileID)
	if !f.renamed {
		if _, err := segment.WriteFooter(f.journal, f.end, ix); err != nil {
			return err
		}
		if err := f.journal.Sync(); err != nil {
			return err
		}
		if err := s.fs.Rename(f.name, name); err != nil {
			return err
		}
		f.renamed = true
	}
	if err := s.fs.SyncDir(logDir); err != nil {
		return err
	}
	seg, err := segment.Open(s.fs, name)
	if err != nil {
		return err
	}
	k.replace(f, newSegmentFile(s, f.fileID, seg), parts)
	k.leaveOut(f)
	k.retire(f, false)
	return nil
}

// replace puts a new file in the place of an old one, for some partitions.
func (k *housekeeper) replace(old, by *file, parts []part) {
	k.files[by.fileID] = by
	for _, pt := range parts {
		if sum, ok := by.segment.Summary(uint32(pt.p.ID)); ok {
			pt.p.Replace(old, by, (*partition.Summary)(&sum))
		}
	}
}

// aborts visits the aborted transactions whose markers are in the part.
func (pt *part) aborts(visit func(segment.Aborted)) error {
	return pt.p.AbortsOf(&pt.span, pt.extents[0].Base, visit)
}

// rollBytes is how much of a partition is read at once for a roll-up.
const rollBytes = 1 << 20

// rollUp writes the batches that some partitions have in a file into a segment, sorted by partition.
func (k *housekeeper) rollUp(f *file, parts []part, id fileID) error {
	w, err := segment.Create(k.s.fs, segmentName(id))
	if err != nil {
		return err
	}
	w.ByMapping(k.fingerprint())
	for _, pt := range parts {
		if err := k.copyPart(w, f, pt); err != nil {
			w.Abort()
			return err
		}
	}
	seg, err := w.Finish()
	if err != nil {
		return err
	}
	k.replace(f, newSegmentFile(k.s, id, seg), parts)
	return nil
}

// rewrite writes what is left of a segment into one of the next generation.
func (k *housekeeper) rewrite(f *file) error {
	k.useNaming()
	parts, _, _, err := k.s.partsIn(f)
	if err != nil {
		return err
	}
	if err := k.rollUp(f, parts, k.nextID(f.number)); err != nil {
		return err
	}
	k.drop(f)
	return nil
}

// copyPart copies what a partition has in a file; from a journal, what has to be compacted is compacted for itself.
func (k *housekeeper) copyPart(w *segment.Writer, f *file, pt part) error {
	place := k.s.Topics().Place(pt.p.ID)
	run, err := k.begin(w, f, pt)
	if err != nil {
		return err
	}
	if names := k.told(f, pt); run == nil && pt.shred == nil && names != nil {
		defer w.Known(names)
		place = stream.Place{}
	}
	err = eachBatch(f, pt, func(b record.Batch) error {
		if run != nil {
			if b, err = run.Clean(b); err != nil || b == nil {
				return err
			}
		}
		if pt.shred != nil {
			if b, err = pt.shred.Batch(b); err != nil {
				return err
			}
		}
		return w.Append(uint32(pt.p.ID), b, k.names(place, b))
	})
	if err != nil {
		return err
	}
	return pt.aborts(w.Aborted)
}

// begin begins the run of a partition in a new file. It returns how it is compacted, nil for not at all.
func (k *housekeeper) begin(w *segment.Writer, f *file, pt part) (*compact.Run, error) {
	id, settings := uint32(pt.p.ID), pt.p.Settings()
	if pt.span.Compacted != nil {
		return nil, w.Compact(id, *pt.span.Compacted)
	}
	base, last := pt.extents[0].Base, pt.extents[len(pt.extents)-1].Last
	bounds, err := pt.p.Bounds()
	if err != nil || f.journal == nil || !settings.Compact || settings.MinCompactionLagMs > 0 || last >= bounds.Stable {
		return nil, nil //nolint:nilerr // a topic that was deleted meanwhile is copied as it is
	}
	aborted, err := pt.p.Hidden(base, last+1)
	if err != nil {
		return nil, err
	}
	k.offsets.Reset()
	run := &compact.Run{
		Partition: id, Offsets: k.offsets, Last: last, Part: true, Newest: k.s.newestOf(pt.p).of,
		Aborted: aborted.Hides, Scratch: &k.scratch,
	}
	end, full := base, false
	err = eachBatch(f, pt, func(b record.Batch) error {
		if full {
			return nil
		}
		behind, most, err := run.Note(b)
		if full = most || err != nil; err == nil {
			end = behind // else who reads the batch is told what is wrong with its records
		}
		return nil
	})
	if err != nil || end == base {
		return nil, err
	}
	run.End = end
	return run, w.Compact(id, segment.Compacted{Base: base, Gaps: end, Clean: base})
}

// eachBatch visits the batches that a partition has in a file. Each is valid while it is visited.
func eachBatch(f *file, pt part, visit func(b record.Batch) error) error {
	var batches []record.Batch
	var buf []byte
	for extents := pt.extents; len(extents) > 0; {
		n, _ := near(extents, rollBytes)
		size := int(spread(extents[:n]))
		buf = slices.Grow(buf[:0], size+atrest.TagBytes)[:size]
		var err error
		if batches, err = f.readNear(pt.p.ID, buf, extents[:n], batches[:0]); err != nil {
			return err
		}
		for _, b := range batches {
			if err := visit(b); err != nil {
				return err
			}
		}
		extents = extents[n:]
	}
	return nil
}

// retain moves log start offsets as the topics ask, then removes the files in which nothing is left and
// rewrites those of which less than half is.
func (k *housekeeper) retain() error {
	now := k.s.opt.Clock().UnixMilli()
	if k.clock.waits() {
		now = 0 // nothing is old
	}
	for _, p := range *k.s.parts.Load() {
		if p == nil {
			continue
		}
		before, err := p.Bounds()
		if err != nil {
			continue
		}
		if due := min(p.Expired(now), before.Stable); due > before.Start { // open transactions keep what they wrote
			p.Trim(due)
			k.dirty = true
		}
	}
	if k.dirty {
		err := k.takeCheckpoint()
		if fault.Is(err, fault.Closed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return k.reclaim()
}

// leastGain is how many bytes the rewriting of a file gives back at least: an index alone is not worth it.
const leastGain = 16 << 10

// gain is about how many bytes the file would be smaller if only so many bytes of records that are left were written
// anew; 0 if that is more than half of them. The index goes along with the records: of many small runs it is the larger
// part, and no gain.
func (f *file) gain(left int64) int64 {
	if left >= f.content/2 {
		return 0
	}
	return f.size - f.size*left/f.content
}

// reclaim gives back the space of what nobody can read any more. One file at a time is written anew only to be
// encrypted.
func (k *housekeeper) reclaim() error {
	live := make(map[partition.File]int64)
	for _, p := range *k.s.parts.Load() {
		if p != nil {
			p.Live(func(s partition.Span) { live[s.File] += s.Bytes })
		}
	}
	var errs []error
	again := false
	for _, f := range k.sortedFiles() {
		switch left := live[f]; {
		case f.number <= k.frozen, f.busy:
		case left == 0:
			k.drop(f)
		case f.segment == nil || k.cleaning.reads(f) || f.later.waits():
		case f.gain(left) > leastGain, !again && k.stale(f):
			again = again || k.s.stale(f)
			if err := k.rewrite(f); err != nil {
				f.later.failed(k.s.opt.RetentionInterval)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
