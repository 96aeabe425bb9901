package store

import (
	"slices"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// scan is the memory of one Scan. Scans are lent, so that readers hold none between two of them.
type scan struct {
	batches []record.Batch
	aborted []partition.Aborted // transactions that have something in the batches
	records stream.BatchScan
}

var scans = sync.Pool{New: func() any { return new(scan) }}

// giveBack returns what was lent, without the batches that were read.
func (sc *scan) giveBack() {
	clear(sc.batches)
	sc.records.Release()
	scans.Put(sc)
}

// Scan implements stream.Log.
func (s *Store) Scan(
	id stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (next record.Offset, err error) {
	p, err := s.partition(id)
	if err != nil {
		return from, err
	}
	bounds, err := p.Bounds()
	if err != nil {
		return from, err
	}
	end := bounds.Stable
	if o.End > 0 {
		end = min(end, o.End)
	}
	if from >= end && from >= bounds.Start && from <= bounds.High {
		return from, nil
	}
	if at := s.skip(p, from, end, o.Names); at > from {
		return at, nil
	}
	maxBytes := o.MaxBytes
	if maxBytes <= 0 {
		maxBytes = stream.ScanBytes
	}
	sc, _ := scans.Get().(*scan) // the pool holds nothing else
	defer sc.giveBack()
	if err := sc.read(s, p, from, end, maxBytes); err != nil {
		return from, damaged(p, from, end, err)
	}
	return sc.walk(from, end, visit)
}

// read reads batches and the aborted transactions that go with them: compaction may take both away in between.
func (sc *scan) read(s *Store, p *partition.Partition, from, end record.Offset, maxBytes int) (err error) {
	for cleaned := p.Cleaned(); ; cleaned = p.Cleaned() {
		if sc.batches, err = s.Read(p.ID, from, maxBytes, sc.batches[:0]); err != nil {
			return err
		}
		sc.aborted = sc.aborted[:0]
		if !slices.ContainsFunc(sc.batches, func(b record.Batch) bool { return b.Attributes().Transactional() }) {
			return nil
		}
		end := min(end, sc.batches[len(sc.batches)-1].LastOffset()+1)
		if sc.aborted, err = s.Aborted(p.ID, from, end, sc.aborted); err != nil || p.Cleaned() == cleaned {
			return err
		}
	}
}

// walk visits the records of [from, end) in the batches.
func (sc *scan) walk(from, end record.Offset, visit func(*record.View) bool) (next record.Offset, err error) {
	next = from
	for _, b := range sc.batches {
		if b.BaseOffset() >= end {
			return end, nil
		}
		if !b.Attributes().Control() && !partition.Hides(sc.aborted, b) {
			var done bool
			if next, done, err = sc.records.Visit(b, next, end, visit); done {
				return next, err
			}
		}
		next = b.LastOffset() + 1
	}
	if len(sc.batches) == 0 {
		return end, nil
	}
	return min(next, end), nil
}

// damaged says how far what cannot be read reaches.
func damaged(p *partition.Partition, from, end record.Offset, err error) error {
	if !fault.Is(err, fault.Corrupt) {
		return err
	}
	return &stream.Damage{From: from, Next: max(min(p.Behind(from), end), from+1), Err: err}
}
