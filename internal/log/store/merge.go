package store

import (
	"math"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// Small sealed files are merged by age, so that a large log is not many files. The housekeeper copies a merge piece by
// piece between its other duties; its inputs stay as they are meanwhile. What was kept in place is not merged: bulk is
// written once. Compacted files are not either: compaction merges them.

const (
	mergeCount = 16            // so many files of about one size are merged before the next one tells that a merge is full
	mergeSpan  = 6 * time.Hour // a merged file holds records of so much time: retention removes them together
	mergePiece = 8 << 20       // bytes copied at a turn
)

// mergeInput is what the choice of files to merge looks at.
type mergeInput struct {
	bytes  int64
	newest int64 // unix milliseconds of the newest record
	stays  bool  // not to be merged
}

// mergeable chooses the files to merge of all, oldest first: fs[from:to]; from == to if there are none. It is the
// oldest run that can grow no further, because the next file does not fit, stays, or is too much younger, or that has
// many files of about one size. Each merge at least doubles what is largest in it, so that no record is written often.
func mergeable(fs []mergeInput, most int64) (from, to int) {
	for from = range fs {
		var total, largest int64
		to = from
		oldest := int64(math.MaxInt64)
		for to < len(fs) && !fs[to].stays && total+fs[to].bytes <= most {
			if oldest = min(oldest, fs[to].newest); fs[to].newest-oldest > mergeSpan.Milliseconds() {
				break
			}
			total, largest = total+fs[to].bytes, max(largest, fs[to].bytes)
			to++
		}
		full := to < len(fs) && total >= 2*largest
		if n := to - from; n > 1 && (full || n >= mergeCount && total >= mergeCount/4*largest) {
			return from, to
		}
	}
	return 0, 0
}

// merge is a merge under way.
type merge struct {
	inputs []*file
	parts  []mergePart // what is left to copy
	id     fileID
	w      *segment.Writer
	naming Naming
	read   map[*partition.Partition][]partition.Span // what the new file will stand for
}

// mergePart is what one partition has in one of the inputs.
type mergePart struct {
	part
	file  *file
	first record.Offset // that is copied
}

// mergeStep begins a merge if one is due, or copies a piece of the one under way, and asks for another turn.
func (k *housekeeper) mergeStep() error {
	if k.shredding > 0 {
		return nil
	}
	if k.merging == nil {
		m, err := k.beginMerge()
		if m == nil || err != nil {
			return err
		}
		k.merging = m
	}
	m := k.merging
	err := k.copyPiece(m)
	if err == nil && len(m.parts) == 0 {
		if err = k.endMerge(m); err == nil {
			k.merging = nil
		}
	}
	if err != nil {
		k.abandonMerge()
		return err
	}
	k.wakeMerge()
	return nil
}

// wakeMerge asks for a turn of the merge under way, or of the next one.
func (k *housekeeper) wakeMerge() {
	select {
	case k.more <- struct{}{}:
	default:
	}
}

// abandonMerge gives a merge up.
func (k *housekeeper) abandonMerge() {
	if m := k.merging; m != nil {
		m.w.Abort()
		k.releaseInputs(m)
		k.merging = nil
	}
}

func (k *housekeeper) releaseInputs(m *merge) {
	for _, f := range m.inputs {
		f.busy = false
	}
}

// beginMerge chooses files and begins their merge; nil if there is nothing to do.
func (k *housekeeper) beginMerge() (*merge, error) {
	files := k.sortedFiles()
	inputs := make([]mergeInput, len(files))
	for i, f := range files {
		inputs[i] = k.mergeInput(f)
	}
	from, to := mergeable(inputs, k.s.opt.MergeBytes)
	if from == to {
		return nil, nil
	}
	m := &merge{inputs: files[from:to:to], read: make(map[*partition.Partition][]partition.Span)}
	var bytes int64
	for _, f := range m.inputs {
		bytes += f.size
	}
	if room := k.s.haveRoom(bytes) == nil; !room {
		return nil, nil // it can wait: the log needs the room itself
	}
	if err := k.gatherParts(m); err != nil || m.id == (fileID{}) {
		return nil, err
	}
	k.useNaming()
	m.naming = k.naming
	var err error
	if m.w, err = segment.Create(k.s.fs, segmentName(m.id)); err != nil {
		return nil, err
	}
	m.w.ByMapping(k.fingerprint())
	for _, f := range m.inputs {
		f.busy = true
	}
	return m, nil
}

// mergeInput tells what a file is to the choice.
func (k *housekeeper) mergeInput(f *file) mergeInput {
	in := mergeInput{bytes: f.size, newest: math.MinInt64}
	in.stays = f.segment == nil || f.segment.InPlace() || f.number <= k.frozen || f.apart || f.busy ||
		f.later.waits() || k.cleaning.reads(f)
	if in.stays {
		return in
	}
	parts := k.s.parts.Load()
	for _, sum := range f.segment.Summaries() {
		in.newest = max(in.newest, sum.MaxTime)
		p := parts.find(stream.PartitionID(sum.Partition))
		in.stays = in.stays || sum.Compacted != nil || p != nil && p.Settings().Compact
	}
	return in
}

// gatherParts lists what is to be copied, by partition, then by age. Without an id the files cannot be merged: another
// file has records of a partition between theirs.
func (k *housekeeper) gatherParts(m *merge) error {
	for _, p := range *k.s.parts.Load() {
		if p == nil {
			continue
		}
		bounds, err := p.Bounds()
		if err != nil {
			continue // deleted meanwhile
		}
		spans, together := p.SpansIn(func(f partition.File) bool { return contains(m.inputs, f) })
		if !together {
			for _, f := range m.inputs {
				f.apart = true
			}
			return nil
		}
		for _, s := range spans {
			f := s.File.(*file) //nolint:errcheck // the files of a store are its own
			extents, err := f.Extents(p.ID)
			if err != nil {
				f.apart = true // as damaged as it is, it stays
				return err
			}
			for len(extents) > 0 && extents[0].Last < bounds.Start {
				extents = extents[1:]
			}
			if len(extents) > 0 {
				m.parts = append(m.parts, mergePart{
					part: part{p: p, extents: extents, span: s}, file: f, first: extents[0].Base,
				})
			}
		}
		if len(spans) > 0 {
			m.read[p] = spans
		}
	}
	m.id = k.nextID(m.inputs[len(m.inputs)-1].number)
	return nil
}

func contains(files []*file, f partition.File) bool {
	for _, other := range files {
		if partition.File(other) == f {
			return true
		}
	}
	return false
}

// copyPiece copies about mergePiece bytes.
func (k *housekeeper) copyPiece(m *merge) error {
	k.naming = m.naming
	for copied := 0; len(m.parts) > 0 && copied < mergePiece; {
		pt := &m.parts[0]
		var batches []record.Batch
		batches, err := pt.file.Read(pt.p.ID, pt.extents, rollBytes, nil)
		if err != nil {
			if pt.file.apart = fault.Is(err, fault.Corrupt); !pt.file.apart && ofItself(err) {
				pt.file.later.failed(k.s.opt.RetentionInterval) // others are merged meanwhile
			}
			return err
		}
		place := k.s.Topics().Place(pt.p.ID)
		for _, b := range batches {
			if err := m.w.Append(uint32(pt.p.ID), b, k.names(place, b)); err != nil {
				return err
			}
			copied += len(b)
		}
		last := batches[len(batches)-1].LastOffset()
		for len(pt.extents) > 0 && pt.extents[0].Last <= last {
			pt.extents = pt.extents[1:]
		}
		if len(pt.extents) == 0 {
			if err := pt.p.AbortsOf(&pt.span, pt.first, m.w.Aborted); err != nil {
				pt.file.apart = fault.Is(err, fault.Corrupt)
				return err
			}
			m.parts = m.parts[1:]
		}
	}
	return nil
}

// endMerge puts the new file in the place of its inputs. From when it has its name both say the same.
func (k *housekeeper) endMerge(m *merge) error {
	for p := range m.read {
		if p.Settings().Compact { // since it began: what compaction makes of the inputs must not be older than this
			return fault.New(fault.Closed, "store.Merge", "a topic is compacted now")
		}
	}
	seg, err := m.w.Finish()
	if err != nil {
		return err
	}
	by := newSegmentFile(k.s, m.id, seg)
	k.files[by.fileID] = by
	for p, read := range m.read {
		if sum, ok := seg.Summary(uint32(p.ID)); ok {
			p.Cover(partition.SpanOf(sum, by), read)
		}
	}
	k.releaseInputs(m)
	for _, f := range m.inputs {
		if !k.holdsReadable(f) {
			k.drop(f)
		}
	}
	return nil
}

// holdsReadable tells whether some partition still reads from a file.
func (k *housekeeper) holdsReadable(f *file) bool {
	for _, p := range *k.s.parts.Load() {
		if p == nil {
			continue
		}
		span, ok := p.In(f)
		if bounds, err := p.Bounds(); ok && err == nil && span.Last >= bounds.Start {
			return true
		}
	}
	return false
}
