package stream

import "github.com/firthmq/firth/internal/log/record"

// BatchScan is the memory of one walk over the records of batches, for the Scan of a keeper. The zero BatchScan is
// ready, and good for any number of batches one after the other.
type BatchScan struct {
	iter    record.Iter
	scratch record.Scratch
	view    record.View
}

// Visit visits the records of [from, end) in a batch. Next is where to go on; done says that the scan ends there:
// the end is reached, visit gave false, or the batch is damaged. Errors: *Damage, over the rest of the batch.
func (s *BatchScan) Visit(
	b record.Batch, from, end record.Offset, visit func(*record.View) bool,
) (next record.Offset, done bool, err error) {
	next = from
	if err := s.iter.Reset(b, &s.scratch); err != nil {
		return next, true, &Damage{From: next, Next: min(b.LastOffset()+1, end), Err: err}
	}
	v := &s.view
	for s.iter.Next(v) {
		switch {
		case v.Offset < from:
			continue
		case v.Offset >= end:
			return end, true, nil
		case !visit(v):
			return v.Offset, true, nil
		}
		next = v.Offset + 1
	}
	if err := s.iter.Err(); err != nil {
		return next, true, &Damage{From: next, Next: min(b.LastOffset()+1, end), Err: err}
	}
	return next, false, nil
}

// Release lets go of the batch that was visited last, so that a BatchScan which waits for its next use pins none.
func (s *BatchScan) Release() { s.iter, s.view = record.Iter{}, record.View{} }
