package stream

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// StoreState puts records into a topic of EnsureState as one unit, and returns when they are on stable storage. Errors:
// those of CreateTopic and of Append; Timeout when ctx ends, and then they may be stored or not.
func StoreState(ctx context.Context, log Keeper, topic string, records []record.Record) error {
	if len(records) == 0 {
		return nil
	}
	t, err := EnsureState(ctx, log, topic)
	if err != nil {
		return err
	}
	unit := Unit{}
	for i := range records {
		unit.Writes = append(unit.Writes, Write{Partition: t.Partitions[0], Record: &records[i]})
	}
	return StoreUnit(ctx, log, &unit)
}

// FoldState is Fold of all of a topic of EnsureState, by key and value: nil, what was there goes. A topic that is not
// there holds nothing. apply does not keep the value.
func FoldState(
	ctx context.Context, log Keeper, topic string, apply func(key string, value []byte) error,
) (Folded, error) {
	t := log.Topics().ByName(topic)
	if t == nil {
		return Folded{}, nil
	}
	return Fold(ctx, log, t.Partitions[0], 0, func(v *record.View) error { return apply(string(v.Key), v.Value) })
}

// StoreUnit appends a unit and returns when it is stored. Errors: as of StoreState.
func StoreUnit(ctx context.Context, log Log, u *Unit) error {
	stored := make(storedReceipt, 1)
	if err := AppendWait(ctx, log, u, stored, 0); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "log.Append", ctx.Err())
	}
}

// storedReceipt is a receipt that somebody waits for; it holds one.
type storedReceipt chan error

// Appended implements Receipt.
func (r storedReceipt) Appended(_ uint64, _ Placed, err error) { r <- err }
