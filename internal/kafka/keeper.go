package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// Store is the log on our own disk as this door needs it: the contract, and what only Kafka asks for.
// *store.Store is it.
type Store interface {
	stream.Keeper

	// Read gives the batches of a partition from an offset on, up to the high watermark.
	Read(p stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch) ([]record.Batch, error)

	// AppendBatch appends one validated batch as it came: only base offset and leader epoch are
	// written. b is kept and shared. A duplicate within the producer's window gets a receipt with its
	// original offset. Errors: NotFound, TooLarge, Full, ReadOnly, Closed, OutOfSequence,
	// DuplicateSequence, Fenced, Invalid.
	AppendBatch(p stream.PartitionID, b record.Batch, to stream.Receipt, ticket uint64) error
	// Find is Read of what is in memory; of what is not it gives the stretch of a file to load it from.
	Find(p stream.PartitionID, from record.Offset, maxBytes int, into []record.Batch) (
		[]record.Batch, store.Stretch, error)
	// NewProducerID gives a producer id that was never given before, durably.
	NewProducerID(ctx context.Context) (int64, error)
	// MaxTime finds the record with the largest stamp, and its stamp; (-1, -1) when empty.
	MaxTime(p stream.PartitionID) (record.Offset, int64, error)
	// Epoch is the current leader epoch.
	Epoch() int32
	// EndOfEpoch is the largest epoch up to the one asked and where it ends; (-1, -1): none.
	EndOfEpoch(p stream.PartitionID, epoch int32) (int32, record.Offset, error)
	// PartitionBytes is how much of the disk a partition takes.
	PartitionBytes(p stream.PartitionID) (int64, error)
	// TrimTo removes the records below off and returns the new log start.
	TrimTo(ctx context.Context, p stream.PartitionID, off record.Offset) (record.Offset, error)
}
