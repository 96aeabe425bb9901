package fanout

import (
	"errors"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// NextPause is how long to wait before a read that failed is tried again, by how long it was before.
func NextPause(before time.Duration) time.Duration {
	return min(max(2*before, firstPause), lastPause)
}

// AfterError decides where to go on after a read of [from, end) failed. What is lost is counted and passed over,
// exactly; a read that may yet succeed is to be tried again from the same place, later.
func (f *Fanout) AfterError(p stream.PartitionID, from, end record.Offset, err error) (next record.Offset, later bool) {
	var damage *stream.Damage
	switch {
	case errors.As(err, &damage):
		next = min(max(damage.Next, from+1), end)
		f.metrics.corrupt.Add(float64(next - from))
		f.complain("damage", "records cannot be read: they are not delivered", p, "from", from, "to", next, "error", err)
		return next, false
	case fault.Is(err, fault.OutOfRange):
		return f.fromStart(p, from, end, err)
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Closed):
		return end, false
	}
	f.complain("read", "cannot read for delivery, trying again", p, "from", from, "error", err)
	return from, true
}

// fromStart goes on where the partition begins now: retention was faster.
func (f *Fanout) fromStart(p stream.PartitionID, from, end record.Offset, err error) (next record.Offset, later bool) {
	bounds, e := f.opt.Log.Bounds(p)
	switch {
	case fault.Is(e, fault.NotFound), fault.Is(e, fault.Closed):
		return end, false
	case e != nil || bounds.Start <= from && from <= bounds.High:
		f.complain("read", "cannot read for delivery, trying again", p, "from", from, "error", errors.Join(err, e))
		return from, true
	}
	next = min(max(bounds.Start, from), end)
	f.metrics.retention.Add(float64(next - from))
	return next, false
}

// poisoned notes a record over which we panicked.
func (f *Fanout) poisoned(p stream.PartitionID, offset record.Offset, cause any) {
	f.metrics.poisoned.Inc()
	f.complain("panic", "a record cannot be delivered: please report this", p, "offset", offset, "panic", cause)
}

// complain logs a line, unless one about the same was just logged.
func (f *Fanout) complain(about, line string, p stream.PartitionID, args ...any) {
	if held, ok := f.lines.Pass(about); ok {
		f.opt.Logger.Error(line, append(args, "partition", p, "more", held)...)
	}
}
