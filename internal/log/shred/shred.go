// Package shred makes records unreadable and leaves their places: a batch keeps its offsets, its times, its producer,
// its transaction and its compression, so that consumers, sequence numbers and indexes see no gap. What stands in the
// place of a record is the caller's to say. The package is pure: log/store reads and writes the files.
package shred

import (
	"github.com/firthmq/firth/internal/log/record"
)

// Run goes through the batches of one partition.
type Run struct {
	// End is the offset from which on records are not looked at.
	End record.Offset
	// Replace tells whether a record goes, and then fills r with key, value and headers of what stands in its place,
	// which must hold until the next call. It must not want to replace what it gave.
	Replace func(v *record.View, r *record.Record) bool
	// Scratch unpacks compressed batches, and compresses what is made of them.
	Scratch *record.Scratch

	// Records counts those that Batch has replaced.
	Records int64

	builder record.Builder
	buf     []byte
	stub    record.Record
}

// Has tells whether records of a batch go. Errors: Corrupt, TooLarge (decompressed).
func (r *Run) Has(b record.Batch) (bool, error) {
	if b.Attributes().Control() || b.Count() == 0 || b.BaseOffset() >= r.End {
		return false, nil
	}
	var it record.Iter
	if err := it.Reset(b, r.Scratch); err != nil {
		return false, err
	}
	for v := (record.View{}); it.Next(&v); {
		if r.goes(&v) {
			return true, nil
		}
	}
	return false, it.Err()
}

func (r *Run) goes(v *record.View) bool { return v.Offset < r.End && r.Replace(v, &r.stub) }

// Batch gives a batch without the records that go: b itself if there are none, or one that holds until the next call.
// Errors: as Has.
func (r *Run) Batch(b record.Batch) (record.Batch, error) {
	has, err := r.Has(b)
	if err != nil || !has {
		return b, err
	}
	var it record.Iter
	if err := it.Reset(b, r.Scratch); err != nil {
		return nil, err
	}
	r.builder.ResetLike(r.buf, b)
	for v := (record.View{}); it.Next(&v); {
		if !r.goes(&v) {
			r.builder.AppendView(&v)
			continue
		}
		r.builder.AppendInstead(&v, &r.stub)
		r.Records++
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	made, err := r.builder.SealLike(b, r.Scratch)
	if b.Attributes().Codec() == record.None {
		r.buf = made[:0]
	}
	return made, err
}
