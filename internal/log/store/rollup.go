package store

import (
	"errors"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// part is what one partition has in a file.
type part struct {
	p       *partition.Partition
	extents []segment.Extent // those that still hold readable records
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
			parts = append(parts, part{p: p, extents: extents})
		}
	}
	return parts, bytes, batches, nil
}

// sealed turns the journals that are full into segments. A checkpoint comes first: a segment has the batches
// of a journal, but neither its trims nor its reservations.
func (k *keeper) sealed() error {
	k.mu.Lock()
	files := k.mu.sealed
	k.mu.sealed = nil
	k.mu.Unlock()
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		if !f.gone {
			k.files[f.fileID] = f
		}
	}
	if err := k.takeCheckpoint(); err != nil {
		k.again(files...)
		k.caughtUp(0, true)
		if fault.Is(err, fault.Closed) {
			return nil
		}
		return err
	}
	for i, f := range files {
		if f.number <= k.frozen || f.gone {
			k.caughtUp(1, false)
			continue
		}
		err := k.convert(f)
		switch {
		case fault.Is(err, fault.Corrupt):
			k.s.opt.Logger.Error("the log is damaged; a full journal stays as it is", "file", f.name, "error", err,
				"hint", fault.HintOf(err))
		case err != nil:
			k.again(files[i:]...) // in their order: the header of each tells where the one before it ended
			k.caughtUp(0, true)
			return err
		}
		k.caughtUp(1, false)
	}
	return nil
}

// again puts journals back to be converted at the next turn.
func (k *keeper) again(files ...*file) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.sealed = append(files, k.mu.sealed...)
}

// convert makes a segment of a sealed journal: in place if its batches are large, sorted if they are small.
func (k *keeper) convert(f *file) error {
	k.useNaming()
	parts, bytes, batches, err := k.s.partsIn(f)
	if err != nil {
		return err
	}
	if batches == 0 {
		k.drop(f)
		return nil
	}
	if f.journal != nil && !f.broken && bytes/int64(batches) >= k.s.opt.BulkBatchBytes {
		return k.keepInPlace(f, parts)
	}
	return k.rollUp(f, parts)
}

// drop lets go of a file in which nothing is left.
func (k *keeper) drop(f *file) {
	for _, p := range *k.s.parts.Load() {
		if p != nil {
			p.Replace(f, nil, nil)
		}
	}
	k.retire(f, true)
}

// nextID is a name of a number that no file had: that of the next generation.
func (k *keeper) nextID(number uint64) fileID {
	k.newest[number]++
	return fileID{number: number, generation: k.newest[number]}
}

// retire lets go of a file, once.
func (k *keeper) retire(f *file, remove bool) {
	if f.gone {
		return
	}
	f.gone = true
	if k.files[f.fileID] == f {
		delete(k.files, f.fileID)
	}
	f.remove = remove
	f.Release()
}

// keepInPlace writes a footer behind the last frame: the data is not written again.
func (k *keeper) keepInPlace(f *file, parts []part) error {
	s := k.s
	ix := make(segment.Index, 0, len(parts))
	for _, pt := range parts {
		run := segment.Run{Partition: uint32(pt.p.ID), Extents: pt.extents, Names: k.nameRun(f, pt)}
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
	k.replace(f, newSegmentFile(s, f.fileID, seg), false)
	return nil
}

// replace puts a new file in the place of an old one, for all partitions.
func (k *keeper) replace(old, by *file, remove bool) {
	k.files[by.fileID] = by
	for _, p := range *k.s.parts.Load() {
		if p == nil {
			continue
		}
		if sum, ok := by.segment.Summary(uint32(p.ID)); ok {
			p.Replace(old, by, (*partition.Summary)(&sum))
		} else {
			p.Replace(old, by, nil)
		}
	}
	k.retire(old, remove)
}

// rollBytes is how much of a partition is read at once for a roll-up.
const rollBytes = 1 << 20

// rollUp writes the batches of a file into a segment sorted by partition: that of a journal, or the next generation of
// a segment.
func (k *keeper) rollUp(f *file, parts []part) error {
	id := f.fileID
	if f.segment != nil {
		id = k.nextID(f.number)
	}
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
	k.replace(f, newSegmentFile(k.s, id, seg), true)
	return nil
}

func (k *keeper) copyPart(w *segment.Writer, f *file, pt part) error {
	place := k.s.Topics().Place(pt.p.ID)
	var batches []record.Batch
	for extents := pt.extents; len(extents) > 0; {
		var err error
		if batches, err = f.Read(pt.p.ID, extents, rollBytes, batches[:0]); err != nil {
			return err
		}
		for _, b := range batches {
			if err := w.Append(uint32(pt.p.ID), b, k.names(place, b)); err != nil {
				return err
			}
		}
		last := batches[len(batches)-1].LastOffset()
		for len(extents) > 0 && extents[0].Last <= last {
			extents = extents[1:]
		}
	}
	return nil
}

// retain moves log start offsets as the topics ask, then removes the files in which nothing is left and
// rewrites those of which less than half is.
func (k *keeper) retain() error {
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
		if due := p.Expired(now); due > before.Start {
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

// reclaim gives back the space of what nobody can read any more.
func (k *keeper) reclaim() error {
	live := make(map[partition.File]int64)
	for _, p := range *k.s.parts.Load() {
		if p != nil {
			p.Live(func(s partition.Span) { live[s.File] += s.Bytes })
		}
	}
	var errs []error
	for _, f := range k.sortedFiles() {
		switch left := live[f]; {
		case f.number <= k.frozen:
		case left == 0:
			k.drop(f)
		case f.segment != nil && left < f.size/2:
			parts, _, _, err := k.s.partsIn(f)
			if err == nil {
				err = k.rollUp(f, parts)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
