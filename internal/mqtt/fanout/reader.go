package fanout

import (
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// reader walks records of the log. It belongs to one worker.
type reader struct {
	mapped hinge.Message
	msg    Message
}

// read walks the committed records of [from, end), about TurnBytes of them, and returns where it stopped:
// behind the last record that each took, or at the first for which each was false.
func (r *reader) read(
	w *worker, p stream.PartitionID, from, end record.Offset, each func(*record.View) bool,
) (next record.Offset, err error) {
	if from >= end {
		return from, nil
	}
	return w.f.opt.Log.Scan(p, from, stream.ScanOptions{End: end, MaxBytes: w.f.opt.TurnBytes}, each)
}
