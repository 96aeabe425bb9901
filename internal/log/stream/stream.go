// Package stream is the contract: all that a room above may ask of the log.
//
// Two keepers keep it: log/store on our own disk and, in gateway mode, log/cluster on an outside
// Kafka. One suite, log/streamtest, holds both to it. What only the Kafka door needs (batches as
// they came, producer fencing, times, epochs) it asks of log/store directly.
//
// Calls go down, one small Receipt comes up, and news is (partition, offset), never data.
package stream

import (
	"context"

	"github.com/firthmq/firth/internal/log/record"
)

// PartitionID is the dense number of a partition in this log: given once, never reused, the same
// after a restart. It addresses the hot path; people and protocols say (topic, index).
type PartitionID uint32

// Log is the one log as the rooms above see it. All methods may be called from any goroutine.
type Log interface {
	// Topics is the current set of topics: an immutable snapshot, swapped whole at each change.
	Topics() *Topics

	// CreateTopic makes a topic and returns it once that is on stable storage.
	// Errors: Exists, Invalid (name, counts, settings), Limited.
	CreateTopic(ctx context.Context, spec TopicSpec) (*Topic, error)

	// DeleteTopic removes a topic and its records. Errors: NotFound, Denied (internal topics).
	DeleteTopic(ctx context.Context, name string) error

	// AlterTopic changes settings or adds partitions. Errors: NotFound, Invalid.
	AlterTopic(ctx context.Context, name string, change TopicChange) (*Topic, error)

	// Append adds every write, in order, as one atomic unit: after a crash all of them are there
	// or none. Keys, values and headers are copied before it returns; nothing of ws is kept.
	// It returns as soon as the writes have their place in the open commit group and blocks only
	// while the log's memory budget is used up (back-pressure). With a nil receipt nobody is told.
	// An error means that nothing was appended and no receipt will come.
	// Errors: NotFound, TooLarge, Full, ReadOnly, Closed.
	Append(ws []Write, to Receipt, ticket uint64) error

	// Crowded tells whether Append would block now. Who must not be held up asks before it appends.
	Crowded() bool

	// Read returns whole batches of one partition, the first of which holds the offset from, up to
	// the high watermark, appended to into. It stops before maxBytes but always returns one batch
	// if there is one. The bytes are shared and must not be changed. Nothing to read (from equals
	// the high watermark) is no error. Errors: NotFound, OutOfRange, Corrupt, IO, Closed.
	Read(p PartitionID, from record.Offset, maxBytes int, into []record.Batch) ([]record.Batch, error)

	// Bounds is where the partition begins and ends now. Errors: NotFound.
	Bounds(p PartitionID) (Bounds, error)

	// Watch tells w of every advance of every partition's high watermark from now on, until stop is
	// called. After stop returns, w is not called again.
	Watch(w Watcher) (stop func())
}

// Bounds is the readable range of a partition: offsets in [Start, High).
type Bounds struct {
	Start record.Offset // log start offset: the first that may still be read
	High  record.Offset // high watermark: one past the last durable record
}

// Write is one record for one partition.
type Write struct {
	Partition PartitionID
	Record    *record.Record
}

// Receipt is told the fate of an Append.
type Receipt interface {
	// Appended is called exactly once for each Append that returned nil: with the offset of its
	// first write once all its writes are as durable as their topics ask, or with the error that
	// lost them. It is called from the log's own goroutine, for one caller in the order of its
	// Appends. It must not block, nor call the log back.
	Appended(ticket uint64, base record.Offset, err error)
}

// Watcher is told that there is something new to read.
type Watcher interface {
	// Advanced says that the high watermark of a partition is now high. It comes from the log's
	// own goroutine after the records can be read, and before their receipts. It must not block,
	// nor call the log back.
	Advanced(p PartitionID, high record.Offset)
}
