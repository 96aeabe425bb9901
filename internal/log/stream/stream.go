// Package stream is the contract: all that a room above may ask of the log.
//
// Two keepers keep it: log/store on our own disk and log/cluster on an outside Kafka. One suite,
// log/streamtest, holds both to it. What only the Kafka door needs (batches as they came, trims,
// producer fencing, epochs) it asks of log/store directly.
//
// Calls go down, one small Receipt comes up, and news is (partition, offset), never data.
package stream

import (
	"context"

	"github.com/firthmq/firth/internal/log/record"
)

// PartitionID is the dense number of a partition in one keeper: given once, never reused while it is
// open. It addresses the hot path. What is stored or sent names a partition by (topic id, index), for
// another node may have other numbers.
type PartitionID uint32

// Log is the one log as the rooms above see it. All methods may be called from any goroutine.
type Log interface {
	// Topics is the current set of topics: an immutable snapshot, swapped whole at each change.
	Topics() *Topics

	// Bounds is where the partition begins and ends now. A keeper on a cluster asks the cluster, unless the
	// partition is followed. Errors: NotFound; of a cluster also IO, Timeout, Denied, Closed.
	Bounds(p PartitionID) (Bounds, error)

	// Append adds a unit: after a crash all of it is there or none. Its records can be read partition by
	// partition, and all of them before its receipt, except where an open transaction of somebody else
	// holds the last stable offset of a partition back: such a receipt does not wait for it. In a partition
	// its records are in the order of Writes, at offsets that rise; there may be gaps between them. Keys,
	// values and headers are copied before it returns; nothing of u is kept but its Turn. It never blocks:
	// without room it gives ErrCrowded, and u.Turn, if there is one, is told when to come again. With a nil
	// receipt nobody is told. An error means that nothing was appended and no receipt will come.
	// Errors: ErrCrowded, NotFound, TooLarge, Fenced, Full, ReadOnly, Closed.
	Append(u *Unit, to Receipt, ticket uint64) error

	// Crowded tells whether an Append would find no room now: who has not begun may as well wait.
	Crowded() bool

	// Scan visits the committed records from an offset on, at most about o.MaxBytes of them, and says
	// where to go on: next is larger than from, even if nothing was visited because what lies there is
	// compacted, aborted, or of no interest by o.Names. It equals from only at the end. When visit
	// gives false, next is the record that it was shown last. A view is valid during the visit.
	// Errors: NotFound, OutOfRange (before Start or past High), *Damage (Corrupt; what comes before it
	// was visited), IO, Closed; of a cluster also Timeout, Denied. With an error next is the first offset
	// that was not visited.
	Scan(p PartitionID, from record.Offset, o ScanOptions, visit func(*record.View) bool) (
		next record.Offset, err error)

	// Watch tells w of every advance from now on: of every partition, or of those that are followed.
	Watch(w Watcher, of Interest) Watching

	// Own takes a shard over: every unit of an older owner is refused as Fenced from now on, on
	// whatever node it is, and what it has not committed is aborted, or committed first. So all that an older owner
	// ever gets there can be read when it returns. Errors: NotFound, Closed, IO, Timeout, Denied.
	Own(ctx context.Context, shard PartitionID) (Owner, error)
}

// Admin makes and changes topics.
type Admin interface {
	// CreateTopic makes a topic and returns it once that is on stable storage. A cluster does not keep
	// settings that begin with "firth.".
	// Errors: Exists, Invalid (name, counts, settings), Limited; of a cluster also IO, Timeout, Denied.
	CreateTopic(ctx context.Context, spec TopicSpec) (*Topic, error)

	// DeleteTopic removes a topic and its records. Errors: NotFound, Denied (internal topics).
	DeleteTopic(ctx context.Context, name string) error

	// AlterTopic changes settings or adds partitions. After an error of a cluster one of the two may have
	// been done. Errors: NotFound, Invalid.
	AlterTopic(ctx context.Context, name string, change TopicChange) (*Topic, error)
}

// History looks things up in what was stored. It may wait for a disk: never ask from where others wait.
type History interface {
	// OffsetForTime finds the first committed record stamped unixMillis or later, and its stamp; (-1, -1): none.
	// Errors: NotFound, Corrupt, IO, Timeout.
	OffsetForTime(ctx context.Context, p PartitionID, unixMillis int64) (record.Offset, int64, error)
}

// Keeper is all that a keeper of the log offers to both doors.
type Keeper interface {
	Log
	Admin
	History
}

// Bounds are the offsets of a partition: Start <= Stable <= High.
type Bounds struct {
	Start  record.Offset // log start offset: the first that may still be read
	Stable record.Offset // last stable offset: all records below it are committed or aborted
	High   record.Offset // high watermark: one past the last durable record
}

// Unit is what one Append makes durable together.
type Unit struct {
	Writes []Write
	Owner  Owner // who may still append it; zero: anybody
	Turn   *Turn // where to wait when there is no room; nil: ErrCrowded is all
	// Early has the receipt come as soon as the unit cannot be lost by a crash of this node, on whatever disk that is:
	// its records may be read later, and its places are not known then (at is nil without an error). All units of a
	// caller and of an owner are early, or none is: else they pass each other.
	Early bool
}

// Write is one record for one partition.
type Write struct {
	Partition PartitionID
	Record    *record.Record
	Name      *Name // a hint for a keeper's index; nil: not known
}

// Name is the MQTT topic name that a mapping gives to records. It is immutable.
type Name struct {
	Mapping uint64 // fingerprint of the mapping
	Topic   []byte
}

// Owner is a fencing token for a shard, given by Log.Own. The zero Owner fences nothing.
type Owner struct {
	Shard PartitionID
	Epoch int32 // from 1
}

// Placed tells where the writes of a unit are. It is valid while Appended runs.
type Placed interface {
	// Offset is the offset of the write at an index of Unit.Writes.
	Offset(write int) record.Offset
}

// Receipt is told the fate of a unit.
type Receipt interface {
	// Appended is called exactly once for each Append that returned nil: with the places of the
	// writes once all of them are as durable as their topics ask (on a cluster: as acks=all has it), or
	// with the error that lost them, and then at is nil. It is called from the keeper's own goroutines, one
	// call at a time, for one caller in the order of its Appends: a caller is a Receipt, which must be
	// comparable. It must not block, and may ask the log for Topics and Bounds only.
	//
	// After Timeout or Closed from a cluster that went away in the middle nobody knows: the unit is there or
	// will be, whole, or it never will. Who must know owns a shard: the next Own decides it, for all to read.
	Appended(ticket uint64, at Placed, err error)
}

// ScanOptions say what a Scan looks for.
type ScanOptions struct {
	// End is where to stop: an offset, exclusive. 0: the last stable offset, which is never passed.
	End record.Offset
	// MaxBytes is about how much is read at most, and at least one batch. 0: ScanBytes.
	MaxBytes int
	// Names says which MQTT topic names the reader wants, so that a keeper may pass over what has none
	// of them. It is a hint: other records may be visited all the same. nil: all.
	Names *Names
}

// ScanBytes is how much a Scan reads that does not say.
const ScanBytes = 256 << 10

// Names is a hint for what a reader wants.
type Names struct {
	// Mapping is the fingerprint of the mapping by which records have these names.
	Mapping uint64
	// Match tells whether a record of this MQTT topic name may be wanted.
	Match func(name []byte) bool
	// Stems are such that each wanted name is one of them or begins with one of them and a slash.
	// Without any, every name has to be asked for.
	Stems [][]byte
}

// Interest is what a watcher wants to hear of.
type Interest uint8

// The interests.
const (
	AllPartitions Interest = iota // every partition of Topics, now and later
	Followed                      // those named by Watching.Follow
)

// Watching is a watch that is on.
type Watching interface {
	// Follow adds partitions to a watch of Followed ones. Every advance after it returns is told; what
	// was there before, Bounds tells, and the first news may tell it once more.
	Follow(ps ...PartitionID)
	// Unfollow takes partitions out again. A last advance may still be on its way.
	Unfollow(ps ...PartitionID)
	// Stop ends the watch. After it returns the watcher is not called again.
	Stop()
}

// Watcher is told that there is something new to read.
type Watcher interface {
	// Advanced says that the last stable offset of a partition is now stable. It comes from the
	// keeper's own goroutines, one call at a time, when the records can be read and, for who hears of their
	// partition, before their receipts on this node. It must not block, and may ask the log for Topics and
	// Bounds only.
	Advanced(p PartitionID, stable record.Offset)
}

// TopicWatcher is a Watcher that wants to know when topics are made, changed or deleted.
type TopicWatcher interface {
	Watcher
	// TopicsChanged says that Log.Topics gives another set. It comes as Advanced does, and before the
	// first news of a topic that was made.
	TopicsChanged()
}
