// Package compact decides what stays of a compacted topic: of each key the last record, as Kafka's cleaner does.
//
// A pass over a partition has two halves. The first notes in Offsets the last offset of each key in what was not
// compacted yet, as far as its memory reaches. The second goes through all batches from the beginning of the
// partition up to there, and a Run gives what stays of each. What the first half did not reach stays as it is,
// for another pass. The package is pure: log/store reads and writes the files.
package compact

import (
	"math"
	"slices"

	"github.com/firthmq/firth/internal/log/record"
)

// Run compacts the batches of one partition, in the order of their offsets. What stays keeps its offset, its order
// and its timestamp; a batch keeps its place, its producer and its compression.
type Run struct {
	Partition uint32
	// Offsets has the last offset of each key up to End. Records from End on stay.
	Offsets *Offsets
	End     record.Offset
	// Last is the last offset of all. Its batch stays, if need be without records: readers learn where to go on.
	Last record.Offset
	// Now is the time, and DeleteRetention how long tombstones are kept once all before them is compacted, both in
	// milliseconds (KIP-534).
	Now, DeleteRetention int64
	// Part says that older records are not compacted along: tombstones get no horizon yet.
	Part bool
	// Newest is the base offset of the newest batch of an idempotent producer, or -1. That batch stays, if need be
	// without records: after a crash the sequence numbers of the producer must be known. nil: there are none.
	Newest func(producer int64) record.Offset
	// Aborted tells of a batch whether its transaction was aborted: its records go, and supersede nothing. nil: there are
	// none. What belongs to an open transaction must not be given.
	Aborted func(b record.Batch) bool
	// Emptied is told the offset of each marker of which the transaction has nothing left: whether it was aborted no
	// longer matters. nil: nobody wants to know.
	Emptied func(marker record.Offset)
	// Scratch unpacks compressed batches, and compresses what stays of them.
	Scratch *record.Scratch

	// Records and Removed count what was looked at and what of it went.
	Records, Removed int64

	builder record.Builder
	buf     []byte
	left    []bool         // which records of the batch at hand stay
	open    map[int64]bool // producers that have something left in the transaction at hand
}

// Note is the first half: it notes the keys of a batch in Offsets, as Offsets.Add does.
func (r *Run) Note(b record.Batch) (end record.Offset, full bool, err error) {
	if r.aborted(b) {
		return b.LastOffset() + 1, false, nil
	}
	return r.Offsets.Add(r.Partition, b)
}

func (r *Run) aborted(b record.Batch) bool {
	return r.Aborted != nil && b.Attributes().Transactional() && r.Aborted(b)
}

// Clean gives what stays of a batch: b itself, a batch that holds until the next call, or nil for nothing.
// Errors: Corrupt, TooLarge (decompressed).
func (r *Run) Clean(b record.Batch) (record.Batch, error) {
	switch {
	case b.BaseOffset() >= r.End:
		r.Records += int64(b.Count())
		return b, nil
	case b.Attributes().Control():
		r.Records += int64(b.Count())
		return r.marker(b)
	}
	left, err := r.clean(b)
	if err == nil && left != nil && !r.Part && b.Attributes().Transactional() {
		if r.open == nil {
			r.open = make(map[int64]bool)
		}
		r.open[b.ProducerID()] = true
	}
	return left, err
}

// marker gives what stays of the end of a transaction. It goes as a tombstone does (KIP-534): a while after nothing is
// left of what it ends, for who reads on from before it.
func (r *Run) marker(b record.Batch) (record.Batch, error) {
	a, producer := b.Attributes(), b.ProducerID()
	if !a.Transactional() || r.Part || b.LastOffset() >= r.End { // what it ends may be in older files
		return b, nil
	}
	if r.open[producer] {
		delete(r.open, producer)
		return b, nil
	}
	if r.Emptied != nil {
		r.Emptied(b.LastOffset())
	}
	due := b.Count() == 0 || a.DeleteHorizon() && b.BaseTimestamp() <= r.Now
	switch {
	case a.DeleteHorizon() && !due, b.Count() == 0 && r.holds(b):
		return b, nil
	case due:
		if r.Removed += int64(b.Count()); !r.holds(b) {
			return nil, nil
		}
	}
	r.left = append(r.left[:0], slices.Repeat([]bool{!due}, int(b.Count()))...)
	return r.rebuild(b, !due)
}

// clean gives what stays of records.
func (r *Run) clean(b record.Batch) (record.Batch, error) {
	count := int64(b.Count())
	left, tombstones, err := r.look(b)
	if err != nil {
		return nil, err
	}
	r.Records += count
	r.Removed += count - left
	horizon := tombstones && !r.Part && !b.Attributes().DeleteHorizon() && b.LastOffset() < r.End
	switch {
	case left == 0 && !r.holds(b):
		return nil, nil
	case left == count && !horizon:
		return b, nil
	}
	return r.rebuild(b, horizon)
}

// look notes which records stay, and tells how many do and whether there are tombstones among them.
func (r *Run) look(b record.Batch) (left int64, tombstones bool, err error) {
	r.left = r.left[:0]
	if b.Count() == 0 {
		return 0, false, nil
	}
	var it record.Iter
	if err := it.Reset(b, r.Scratch); err != nil {
		return 0, false, err
	}
	aborted := r.aborted(b)
	for v := (record.View{}); it.Next(&v); {
		stays := !aborted && r.stays(b, &v)
		if r.left = append(r.left, stays); stays {
			left++
			tombstones = tombstones || v.Value == nil
		}
	}
	return left, tombstones, it.Err()
}

// stays tells whether a record does.
func (r *Run) stays(b record.Batch, v *record.View) bool {
	switch {
	case v.Offset >= r.End:
		return true
	case v.Key == nil:
		return false // from before the topic was compacted: nobody could tell what supersedes it
	case v.Value == nil && b.Attributes().DeleteHorizon() && b.BaseTimestamp() <= r.Now:
		return false
	}
	last, noted := r.Offsets.Last(r.Partition, v.Key)
	return !noted || v.Offset >= last
}

// holds tells whether a batch stays though its records go.
func (r *Run) holds(b record.Batch) bool {
	return b.LastOffset() == r.Last ||
		r.Newest != nil && b.ProducerID() >= 0 && r.Newest(b.ProducerID()) == b.BaseOffset()
}

// rebuild makes a batch of the records that stay. Its tombstones may go a while after everything before them was
// compacted, which is now.
func (r *Run) rebuild(b record.Batch, horizon bool) (record.Batch, error) {
	r.builder.ResetLike(r.buf, b)
	if horizon {
		r.builder.SetDeleteHorizon(r.horizon())
	}
	if b.Count() > 0 {
		var it record.Iter
		if err := it.Reset(b, r.Scratch); err != nil {
			return nil, err
		}
		for i, v := 0, (record.View{}); it.Next(&v); i++ {
			if r.left[i] {
				r.builder.AppendView(&v)
			}
		}
	}
	made, err := r.builder.SealLike(b, r.Scratch)
	if b.Attributes().Codec() == record.None {
		r.buf = made[:0]
	}
	return made, err
}

// horizon is when the tombstones that stay now may go.
func (r *Run) horizon() int64 {
	if r.DeleteRetention > math.MaxInt64-r.Now {
		return math.MaxInt64
	}
	return r.Now + r.DeleteRetention
}
