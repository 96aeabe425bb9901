package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// Source is what a fold reads from.
type Source interface {
	Bounds(p PartitionID) (Bounds, error)
	Scan(p PartitionID, from record.Offset, o ScanOptions, visit func(*record.View) bool) (record.Offset, error)
}

// Folded says how far a fold got and what it had to leave out.
type Folded struct {
	Next    record.Offset // where to go on
	Records int64         // applied
	Lost    int64         // offsets that could not be read, or were removed before they were
	Strange int64         // records that apply did not understand
	First   error         // the first of the reasons why something was left out
}

// Complete tells whether the fold holds all there was. Who cannot live with a hole asks.
func (f *Folded) Complete() bool { return f.Lost == 0 && f.Strange == 0 }

// Damage is what a fold of a topic that is not complete is to who cannot live with a hole: Corrupt.
func (f *Folded) Damage(op, topic string) *fault.Error {
	return fault.New(fault.Corrupt, op, "%d records of %s cannot be read, %d are not understood: %w", f.Lost, topic,
		f.Strange, f.First)
}

// foldTries and foldPause are how often, and how long apart, a read that failed is tried again.
const (
	foldTries = 5
	foldPause = 50 * time.Millisecond
)

// Fold applies the committed records of a partition, from an offset up to the end that it has when it
// is called, and has one answer to damage: exactly what cannot be read is left out and counted, a read
// that failed is tried again, a record that apply refuses or panics over is counted and passed over.
// Errors: NotFound, IO that lasts, Closed, Timeout when ctx ends.
func Fold(
	ctx context.Context, log Source, p PartitionID, from record.Offset, apply func(*record.View) error,
) (Folded, error) {
	f := folding{Folded: Folded{Next: from}, log: log, p: p, apply: apply}
	bounds, err := log.Bounds(p)
	if err != nil {
		return f.Folded, err
	}
	f.options.End = bounds.Stable
	for f.Next < bounds.Stable {
		if err := ctx.Err(); err != nil {
			return f.Folded, fault.Wrap(fault.Timeout, "log.Fold", err)
		}
		if err := f.step(ctx); err != nil {
			return f.Folded, err
		}
	}
	return f.Folded, nil
}

type folding struct {
	Folded
	log     Source
	p       PartitionID
	apply   func(*record.View) error
	options ScanOptions
	tries   int
}

// step scans once and decides about what went wrong.
func (f *folding) step(ctx context.Context) error {
	before := f.Next
	next, err := f.log.Scan(f.p, f.Next, f.options, f.visit)
	f.Next = max(f.Next, next)
	if f.Next > before {
		f.tries = 0
	}
	var damage *Damage
	switch {
	case err == nil:
		return nil
	case errors.As(err, &damage):
		f.leaveOut(min(damage.Next, f.options.End), err)
		return nil
	case fault.Is(err, fault.OutOfRange): // removed meanwhile
		bounds, e := f.log.Bounds(f.p)
		if e != nil || bounds.Start <= f.Next {
			return err
		}
		f.leaveOut(min(bounds.Start, f.options.End), err)
		return nil
	case fault.Is(err, fault.IO) && f.tries < foldTries:
		f.tries++
		return fault.Wrap(fault.Timeout, "log.Fold", clock.Pause(ctx, foldPause))
	}
	return err
}

func (f *folding) leaveOut(next record.Offset, err error) {
	next = max(next, f.Next+1)
	f.Lost += int64(next - f.Next)
	f.Next = next
	if f.First == nil {
		f.First = err
	}
}

func (f *folding) visit(v *record.View) bool {
	if err := f.applyOne(v); err != nil {
		f.Strange++
		if f.First == nil {
			f.First = fmt.Errorf("offset %d: %w", v.Offset, err)
		}
	}
	f.Records++
	f.Next = v.Offset + 1
	return true
}

// applyOne turns a panic into an error: a poisonous record must not end every start.
func (f *folding) applyOne(v *record.View) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.Internal, "log.Fold", "applying a record: %v", r)
		}
	}()
	return f.apply(v)
}
