package fanout

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// reader walks records of the log. It belongs to one worker.
type reader struct {
	batches []record.Batch
	iter    record.Iter
	scratch record.Scratch
	view    record.View
	mapped  hinge.Message
	msg     Message
}

// read walks the records of [from, high), at most TurnBytes of them, and returns where it stopped:
// behind the last record that each took, or at the first for which each was false.
func (r *reader) read(
	w *worker, p stream.PartitionID, from, high record.Offset, each func(*record.View) bool,
) (next record.Offset, err error) {
	if from >= high {
		return from, nil
	}
	r.batches, err = w.f.opt.Log.Read(p, from, w.f.opt.TurnBytes, r.batches[:0])
	defer clear(r.batches)
	if err != nil {
		return from, err
	}
	next = from
	for _, b := range r.batches {
		if b.BaseOffset() >= high {
			return high, nil
		}
		if b.Attributes().Control() {
			next = b.LastOffset() + 1
			continue
		}
		if err := r.iter.Reset(b, &r.scratch); err != nil {
			return next, err
		}
		for r.iter.Next(&r.view) {
			if r.view.Offset < from {
				continue
			}
			if r.view.Offset >= high {
				return high, nil
			}
			if !each(&r.view) {
				return r.view.Offset, nil
			}
		}
		if err := r.iter.Err(); err != nil {
			return next, err
		}
		next = b.LastOffset() + 1
	}
	if len(r.batches) == 0 {
		return high, nil
	}
	return min(next, high), nil
}
