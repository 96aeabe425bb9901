package store

import (
	"errors"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// What the log refuses of transactional producers, beside Fenced.
var (
	// ErrUnknownProducer is of a producer id that no transactional id has, or has any more.
	ErrUnknownProducer = errors.New("no transactional id has this producer id")
	// ErrNotInTransaction is of a batch that does not belong to the transaction its producer is in.
	ErrNotInTransaction = errors.New("the partition is not in the producer's transaction")
)

// EndTxn ends the transaction of a producer (KIP-98): a marker goes to every partition that it wrote to since the last
// end. From then on only batches of Epoch are accepted of it, in whatever partition: without anything to end, that is
// all it does.
type EndTxn struct {
	ProducerID       int64
	Epoch            int16
	CoordinatorEpoch int32
	Commit           bool // false: abort
}

// Transaction is what a transactional producer has under way.
type Transaction struct {
	ProducerID int64
	Epoch      int16
	Began      int64                // unix milliseconds of the log's clock; of one from before Open: of that
	Partitions []stream.PartitionID // that it wrote to
}

// producers is the table of transactional producers: who may write, and what each has under way. A pure state machine;
// its owner is whoever holds the group lock. The zero producers knows nobody.
type producers struct {
	byID map[int64]*transactional
	busy map[int64]*transactional // those of which something is under way: few of many
}

// transactional is one of them.
type transactional struct {
	epoch  int16
	began  int64                           // of the oldest of joined that is open
	joined []joined                        // what it wrote to
	added  map[stream.PartitionID]struct{} // what it said that it would write to (AddPartitionsToTxn)
}

// joined is a partition in a transaction.
type joined struct {
	p     *partition.Partition
	began uint64 // commit group of its first batch
	ended uint64 // that of its marker; 0: it is open
}

// know lets a producer write from now on, with batches of an epoch.
func (ps *producers) know(id int64, epoch int16) *transactional {
	if ps.byID == nil {
		ps.byID, ps.busy = make(map[int64]*transactional), make(map[int64]*transactional)
	}
	t := ps.byID[id]
	if t == nil {
		t = &transactional{}
		ps.byID[id] = t
	}
	t.epoch = epoch
	return t
}

// check judges the next batch of an idempotent producer for a partition. implicit: the first batch puts the partition
// into the transaction (KIP-890); else it must have been added. Errors: Fenced, ErrUnknownProducer,
// ErrNotInTransaction.
func (ps *producers) check(b record.Batch, p *partition.Partition, implicit bool) error {
	const op = "produce"
	t := ps.byID[b.ProducerID()]
	inside := b.Attributes().Transactional()
	switch {
	case t == nil && !inside:
		return nil
	case t == nil:
		return fault.New(fault.Invalid, op, "producer %d: %w", b.ProducerID(), ErrUnknownProducer)
	case b.ProducerEpoch() != t.epoch:
		return fault.New(fault.Fenced, op, "producer %d: epoch %d, the newest is %d", b.ProducerID(), b.ProducerEpoch(),
			t.epoch)
	case inside && !implicit && !t.holds(p):
		return fault.New(fault.Invalid, op, "producer %d, partition %d: %w", b.ProducerID(), p.ID, ErrNotInTransaction)
	case !inside && t.open(p):
		return fault.New(fault.Invalid, op, "producer %d: a batch outside of its transaction: %w", b.ProducerID(),
			ErrNotInTransaction)
	}
	return nil
}

// holds tells whether a partition was added to the transaction or is in it.
func (t *transactional) holds(p *partition.Partition) bool {
	_, added := t.added[p.ID]
	return added || t.open(p)
}

// open tells whether something of the transaction is in a partition.
func (t *transactional) open(p *partition.Partition) bool {
	return slices.ContainsFunc(t.joined, func(j joined) bool { return j.p == p && j.ended == 0 })
}

// join notes that a batch of a producer goes into a partition, with a commit group.
func (ps *producers) join(id int64, p *partition.Partition, group uint64, unixMillis int64) {
	t := ps.byID[id]
	if t == nil || t.open(p) {
		return
	}
	if !slices.ContainsFunc(t.joined, func(j joined) bool { return j.ended == 0 }) {
		t.began = unixMillis
	}
	t.joined = append(t.joined, joined{p: p, began: group})
	ps.busy[id] = t
}

// end ends what a producer has under way, with a commit group, and visits the partitions that need a marker.
func (ps *producers) end(e *EndTxn, group uint64, mark func(*partition.Partition)) {
	t := ps.know(e.ProducerID, e.Epoch)
	t.added = nil
	for i := range t.joined {
		if t.joined[i].ended == 0 {
			t.joined[i].ended = group
			mark(t.joined[i].p)
		}
	}
}

// marked notes that a marker ends what a producer has under way in one partition.
func (ps *producers) marked(id int64, p *partition.Partition, group uint64) {
	t := ps.byID[id]
	if t == nil {
		return
	}
	for i := range t.joined {
		if t.joined[i].p == p && t.joined[i].ended == 0 {
			t.joined[i].ended = group
		}
	}
}

// settle forgets what ended with a commit group that is durable, or before it.
func (ps *producers) settle(id int64, group uint64) {
	if t := ps.busy[id]; t != nil {
		t.joined = slices.DeleteFunc(t.joined, func(j joined) bool { return j.ended != 0 && j.ended <= group })
		ps.rest(id, t)
	}
}

// rollback takes back what came with a failed commit group and with all behind it. Epochs stay: who was fenced by
// somebody that was then told of an error may as well begin anew.
func (ps *producers) rollback(group uint64) {
	for id, t := range ps.busy {
		t.joined = slices.DeleteFunc(t.joined, func(j joined) bool { return j.began >= group })
		for i := range t.joined {
			if t.joined[i].ended >= group {
				t.joined[i].ended = 0
			}
		}
		ps.rest(id, t)
	}
}

// rest notes that a producer has nothing under way, if so.
func (ps *producers) rest(id int64, t *transactional) {
	if len(t.joined) == 0 {
		t.joined = nil
		delete(ps.busy, id)
	}
}

// adopt takes over what was under way when the log was opened.
func (ps *producers) adopt(p *partition.Partition, open []partition.Open, unixMillis int64) {
	for _, o := range open {
		if t := ps.byID[o.ProducerID]; t == nil || t.epoch < o.Epoch {
			ps.know(o.ProducerID, o.Epoch)
		}
		ps.join(o.ProducerID, p, 0, unixMillis)
	}
}

// transaction is what a producer has under way, if anything.
func (t *transactional) transaction(id int64) (Transaction, bool) {
	txn := Transaction{ProducerID: id, Epoch: t.epoch, Began: t.began}
	for _, j := range t.joined {
		if j.ended == 0 {
			txn.Partitions = append(txn.Partitions, j.p.ID)
		}
	}
	return txn, len(txn.Partitions) > 0
}

// KnowProducer lets a transactional producer write, with batches of an epoch and no other: after a restart. What it has
// under way stays.
func (s *Store) KnowProducer(id int64, epoch int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.producers.know(id, epoch)
}

// ForgetProducer refuses a producer id from now on, unless it has something under way.
func (s *Store) ForgetProducer(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.mu.producers.byID[id]; t != nil && len(t.joined) == 0 {
		delete(s.mu.producers.byID, id)
	}
}

// AddToTxn lets a producer write to partitions in the transaction that it is in, as clients from before KIP-890 ask
// for before they do. Nothing is written. Errors: Fenced, ErrUnknownProducer.
func (s *Store) AddToTxn(id int64, epoch int16, ids ...stream.PartitionID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.producers.byID[id]
	if t == nil {
		return fault.New(fault.Invalid, "log.AddToTxn", "producer %d: %w", id, ErrUnknownProducer)
	}
	if t.epoch != epoch {
		return fault.New(fault.Fenced, "log.AddToTxn", "producer %d: epoch %d, the newest is %d", id, epoch, t.epoch)
	}
	if t.added == nil {
		t.added = make(map[stream.PartitionID]struct{})
	}
	for _, p := range ids {
		t.added[p] = struct{}{}
	}
	return nil
}

// Transaction is what a producer has under way; ok is false for nothing.
func (s *Store) Transaction(id int64) (txn Transaction, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.mu.producers.byID[id]; t != nil {
		return t.transaction(id)
	}
	return Transaction{}, false
}

// Transactions lists what all producers have under way, in no order.
func (s *Store) Transactions() []Transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Transaction
	for id, t := range s.mu.producers.busy {
		if txn, ok := t.transaction(id); ok {
			all = append(all, txn)
		}
	}
	return all
}

// Aborted appends the aborted transactions that have something in [from, to) of a partition, in the order of their
// first batches. They belong to batches that were read meanwhile if Cleaned did not change. Errors: NotFound, Corrupt,
// IO.
func (s *Store) Aborted(
	id stream.PartitionID, from, to record.Offset, into []partition.Aborted,
) ([]partition.Aborted, error) {
	p, err := s.partition(id)
	if err != nil {
		return into, err
	}
	if into, err = p.Aborted(from, to, into); fault.Is(err, fault.Corrupt) {
		s.reportCorrupt(id, from, err)
	}
	return into, err
}

// Cleaned counts how often compaction replaced something of a partition; 0 if there is none.
func (s *Store) Cleaned(id stream.PartitionID) uint64 {
	p := s.parts.Load().find(id)
	if p == nil {
		return 0
	}
	return p.Cleaned()
}

// ProducerState is what a partition knows of a producer (KIP-664).
type ProducerState struct {
	ProducerID   int64
	Epoch        int16
	LastSequence int32
	LastMillis   int64         // when it wrote last, unix milliseconds of the log's clock
	Began        record.Offset // of its open transaction; -1: it has none here
}

// ProducersOf lists the producers that a partition knows, by their ids. Errors: NotFound.
func (s *Store) ProducersOf(id stream.PartitionID) ([]ProducerState, error) {
	p, err := s.partition(id)
	if err != nil {
		return nil, err
	}
	open := p.Transactions().Opened
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := p.Producers.IDs()
	for _, o := range open {
		ids = append(ids, o.ProducerID) // its window may have expired
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	all := make([]ProducerState, 0, len(ids))
	for _, id := range ids {
		state := ProducerState{ProducerID: id, LastSequence: -1, LastMillis: -1, Began: -1}
		p.Producers.Of(id, func(sent partition.Sent) {
			state.Epoch, state.LastSequence, state.LastMillis = sent.Epoch, sent.Last, sent.Time
		})
		if i := slices.IndexFunc(open, func(o partition.Open) bool { return o.ProducerID == id }); i >= 0 {
			state.Epoch, state.Began = open[i].Epoch, open[i].First
		}
		all = append(all, state)
	}
	return all, nil
}
