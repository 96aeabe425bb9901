// Package txn is one transactional id (KIP-98, KIP-890): which producer has it, in which epoch, and what it has
// announced for the transaction that it is in. It is pure: each step takes the value and gives the next one, or the
// code for the client. The owner writes the next value, together with what the step asks for, in one unit of the log,
// and only then it counts.
//
// There is no prepared state, as Kafka has it: the end of a transaction, its markers and the offsets that it commits
// are one frame, so that nobody ever sees it half done.
package txn

import (
	"math"
	"slices"

	"github.com/firthmq/firth/internal/kafka/wire"
)

// State is how the last transaction of an id ended.
type State uint8

// The states. That a transaction is under way is no state: Underway tells.
const (
	Empty State = iota // there was none yet
	Committed
	Aborted
)

// NoEpoch is the epoch of nobody; NoProducer the id.
const (
	NoEpoch    int16 = -1
	NoProducer int64 = -1
)

// lastEpoch is the last epoch that a producer id has: after it the transactional id gets another one. The one behind
// it fences the producer that had it.
const lastEpoch = math.MaxInt16 - 1

// Txn is the durable value of a transactional id. It is immutable: steps make another.
type Txn struct {
	ProducerID int64
	Epoch      int16
	// LastEpoch is the epoch before, if its producer was given the present one as the answer to a request that it may
	// repeat; else NoEpoch.
	LastEpoch int16
	// LastID is the producer id before, after a rotation; else NoProducer.
	LastID        int64
	TimeoutMillis int32
	State         State
	Updated       int64 // unix milliseconds of the last step
	Announced     Announced
}

// Announced is what a producer has announced for the transaction that it is in. With KIP-890 it announces only offsets:
// the log knows where it wrote to.
type Announced struct {
	Began      int64       // unix milliseconds of the first announcement; 0: there was none
	Partitions []Partition // AddPartitionsToTxn
	Groups     []string    // AddOffsetsToTxn
	Offsets    []Offset    // TxnOffsetCommit, the last of each partition of a group
}

// Partition is a partition of a topic.
type Partition struct {
	Topic string
	Index int32
}

// Offset is an offset that is committed with the transaction.
type Offset struct {
	Group       string
	Topic       string
	TopicID     [16]byte
	Index       int32
	At          int64
	LeaderEpoch int32 // -1: not known
	Metadata    string
}

// New is a transactional id that nobody has had.
func New() Txn {
	return Txn{ProducerID: NoProducer, Epoch: NoEpoch, LastEpoch: NoEpoch, LastID: NoProducer}
}

// Underway tells whether a transaction is under way. open: the log has records of it.
func (t *Txn) Underway(open bool) bool {
	a := &t.Announced
	return open || len(a.Partitions) > 0 || len(a.Groups) > 0 || len(a.Offsets) > 0
}

// Who is the producer that a request says it is.
type Who struct {
	ProducerID int64
	Epoch      int16
}

// comesBack tells whether it says so at all.
func (w Who) comesBack() bool { return w.ProducerID != NoProducer || w.Epoch != NoEpoch }

// Exhausted tells whether the next step of the epoch needs another producer id.
func (t *Txn) Exhausted() bool { return t.ProducerID == NoProducer || t.Epoch >= lastEpoch }

// Init is InitProducerId: whatever is under way is aborted, and whoever had the id before is fenced. fresh is a
// producer id that nobody has, needed if the id is Exhausted. repeated: it is the answer to a request that was answered
// before, and nothing is to be written. Codes: ProducerFenced.
func (t Txn) Init(who Who, timeoutMillis int32, fresh, now int64) (next Txn, repeated bool, code wire.Code) {
	switch {
	case !who.comesBack() || t.ProducerID == NoProducer:
	case who.ProducerID == t.ProducerID && who.Epoch == t.Epoch:
	case who.ProducerID == t.ProducerID && who.Epoch == t.LastEpoch && t.LastEpoch != NoEpoch,
		who.ProducerID == t.LastID && t.LastID != NoProducer && who.Epoch >= lastEpoch:
		return t, true, wire.None
	default:
		return t, false, wire.ProducerFenced
	}
	next = t
	next.step(fresh)
	if !who.comesBack() {
		next.LastEpoch, next.LastID = NoEpoch, NoProducer
	}
	next.State, next.TimeoutMillis, next.Updated, next.Announced = Empty, timeoutMillis, now, Announced{}
	return next, false, wire.None
}

// step moves to the next epoch, or to the first of a fresh producer id.
func (t *Txn) step(fresh int64) {
	if t.Exhausted() {
		t.LastID, t.LastEpoch = t.ProducerID, NoEpoch
		t.ProducerID, t.Epoch = fresh, 0
		return
	}
	t.LastID, t.LastEpoch = NoProducer, t.Epoch
	t.Epoch++
}

// check holds a request to the producer and epoch in force. Codes: InvalidProducerIDMapping, ProducerFenced.
func (t *Txn) check(who Who) wire.Code {
	switch {
	case t.ProducerID == NoProducer || who.ProducerID != t.ProducerID:
		return wire.InvalidProducerIDMapping
	case who.Epoch != t.Epoch:
		return wire.ProducerFenced
	}
	return wire.None
}

// End is how an EndTxn wants a transaction to end.
type End struct {
	Commit bool
	Bump   bool  // the producer goes on with the next epoch (KIP-890)
	Open   bool  // the log has records of the transaction
	Fresh  int64 // a producer id that nobody has, needed if the id is Exhausted and Bump is set
	Now    int64
}

// End is EndTxn. repeated: it ended so before, and nothing is to be written. Codes: those of check; InvalidTxnState.
func (t Txn) End(who Who, e End) (next Txn, repeated bool, code wire.Code) {
	if e.Bump && t.bumpedFrom(who) {
		switch {
		case t.Underway(e.Open):
			return t, false, wire.ProducerFenced // the next transaction is none of its business
		case t.State == ended(e.Commit):
			return t, true, wire.None
		}
		return t, false, wire.InvalidTxnState
	}
	if code := t.check(who); code != wire.None {
		return t, false, code
	}
	if !t.Underway(e.Open) {
		switch {
		case e.Bump && !e.Commit: // aborted before anything was written: the epoch moves on all the same
		case !e.Bump && t.State != Empty && t.State == ended(e.Commit):
			return t, true, wire.None
		default:
			return t, false, wire.InvalidTxnState
		}
	}
	next = t
	next.State, next.Updated, next.Announced = ended(e.Commit), e.Now, Announced{}
	if e.Bump {
		next.step(e.Fresh)
	}
	return next, false, wire.None
}

// bumpedFrom tells whether a producer is the one that the present epoch was given to, as it was before.
func (t *Txn) bumpedFrom(who Who) bool {
	if t.LastID != NoProducer {
		return who.ProducerID == t.LastID && who.Epoch >= lastEpoch
	}
	return who.ProducerID == t.ProducerID && t.LastEpoch != NoEpoch && who.Epoch == t.LastEpoch
}

func ended(commit bool) State {
	if commit {
		return Committed
	}
	return Aborted
}

// Expire aborts a transaction that took too long: its producer is fenced.
func (t Txn) Expire(fresh, now int64) Txn {
	next := t
	next.step(fresh)
	next.LastEpoch, next.LastID = NoEpoch, NoProducer
	next.State, next.Updated, next.Announced = Aborted, now, Announced{}
	return next
}

// AddPartitions is AddPartitionsToTxn. changed: there are some that were not added before. Codes: those of check.
func (t Txn) AddPartitions(who Who, ps []Partition, now int64) (next Txn, changed bool, code wire.Code) {
	if code := t.check(who); code != wire.None {
		return t, false, code
	}
	next = t
	next.begin(now)
	next.Announced.Partitions = slices.Clone(t.Announced.Partitions)
	for _, p := range ps {
		if !slices.Contains(next.Announced.Partitions, p) {
			next.Announced.Partitions = append(next.Announced.Partitions, p)
			changed = true
		}
	}
	return next, changed, wire.None
}

// begin notes when the transaction was first heard of.
func (t *Txn) begin(now int64) {
	if t.Updated = now; t.Announced.Began == 0 {
		t.Announced.Began = now
	}
}

// Has tells whether a partition was added.
func (t *Txn) Has(p Partition) bool { return slices.Contains(t.Announced.Partitions, p) }

// AddOffsets is AddOffsetsToTxn. Codes: those of check.
func (t Txn) AddOffsets(who Who, group string, now int64) (next Txn, changed bool, code wire.Code) {
	if code := t.check(who); code != wire.None {
		return t, false, code
	}
	if slices.Contains(t.Announced.Groups, group) {
		return t, false, wire.None
	}
	next = t
	next.begin(now)
	next.Announced.Groups = append(slices.Clone(t.Announced.Groups), group)
	return next, true, wire.None
}

// CommitOffsets is TxnOffsetCommit of a group. implicit: the offsets bring the group into the transaction (KIP-890);
// else it must have been added. Codes: those of check; InvalidTxnState.
func (t Txn) CommitOffsets(who Who, implicit bool, offsets []Offset, now int64) (next Txn, code wire.Code) {
	if code := t.check(who); code != wire.None {
		return t, code
	}
	next = t
	next.begin(now)
	next.Announced.Offsets = slices.Clone(t.Announced.Offsets)
	for i := range offsets {
		o := &offsets[i]
		if !implicit && !slices.Contains(t.Announced.Groups, o.Group) {
			return t, wire.InvalidTxnState
		}
		at := slices.IndexFunc(next.Announced.Offsets, func(had Offset) bool {
			return had.Group == o.Group && had.Topic == o.Topic && had.Index == o.Index
		})
		if at < 0 {
			next.Announced.Offsets = append(next.Announced.Offsets, *o)
		} else {
			next.Announced.Offsets[at] = *o
		}
	}
	return next, wire.None
}

// ForgetOffsets takes offsets of a group out of the transaction, because they are deleted. changed: there were some.
func (t Txn) ForgetOffsets(
	group string, goes func(topic string, index int32) bool, now int64,
) (next Txn, changed bool) {
	left := slices.DeleteFunc(slices.Clone(t.Announced.Offsets), func(o Offset) bool {
		return o.Group == group && goes(o.Topic, o.Index)
	})
	if len(left) == len(t.Announced.Offsets) {
		return t, false
	}
	next = t
	next.Updated, next.Announced.Offsets = now, left
	return next, true
}
