package kafka

import (
	"context"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// transactionsTopic holds the transactional ids; docs/format/internal-topics.md has the format.
const transactionsTopic = "__firth_transactions"

// maxTransactionalID bounds a transactional id, in bytes.
const maxTransactionalID = 1024

// TxnOptions bound transactions. The zero value of each field is its default.
type TxnOptions struct {
	// MaxTimeout is the longest that a transaction may be asked to stay open. Default 15 min.
	MaxTimeout time.Duration
	// IDExpiry is how long a transactional id is known that nobody uses. Default 7 days.
	IDExpiry time.Duration
	// MaxIDs is how many transactional ids there may be. Default 100,000.
	MaxIDs int
}

func (o TxnOptions) withDefaults() TxnOptions {
	if o.MaxTimeout <= 0 {
		o.MaxTimeout = 15 * time.Minute
	}
	if o.IDExpiry <= 0 {
		o.IDExpiry = 7 * 24 * time.Hour
	}
	if o.MaxIDs <= 0 {
		o.MaxIDs = 100_000
	}
	return o
}

// transactions keeps the transactional ids, a fold of __firth_transactions, and coordinates their transactions.
//
// Whoever takes the turn of an id may change it: he asks the pure value (kafka/txn) for the next one, and commits that
// in one unit of the log together with what it means: a new epoch that fences, markers, the offsets of groups. The
// receipt of the log puts it in force, in the order of the log, and gives the turn back.
//
// Goroutine: Run, which aborts what takes too long.
type transactions struct {
	opt    Options
	limits TxnOptions
	log    *store.Store
	groups *coordinator
	budget *budget
	now    func() int64      // unix milliseconds, without steps
	opened int64             // when the transactions were opened, as now tells it
	seen   map[int64]seenTxn // those that the log has, by producer id; run's own
	ended  telemetry.Counters
	// damaged is why the ids cannot be read; nil: they can. Then no transaction is served, for to guess could let a
	// fenced producer write.
	damaged error

	mu struct {
		sync.Mutex
		byID    map[string]*ownedTxn
		byPID   map[int64]*ownedTxn
		busy    map[*ownedTxn]struct{}          // that have announced something
		pending map[string]map[partitionKey]int // by group, offsets that transactions will commit: of how many
	}
}

// ownedTxn is one transactional id.
type ownedTxn struct {
	id        string
	turn      chan struct{}           // empty while somebody changes it
	value     atomic.Pointer[txn.Txn] // the durable value: only who has the turn changes it
	counted   int64                   // in the budget; by turn
	forgotten bool                    // it is no longer in the map; by turn
}

func newOwnedTxn(id string, value txn.Txn) *ownedTxn {
	ot := &ownedTxn{id: id, turn: make(chan struct{}, 1)}
	ot.value.Store(&value)
	ot.turn <- struct{}{}
	return ot
}

// openTransactions reads the transactional ids from the log. Errors: IO.
func openTransactions(ctx context.Context, opt Options, groups *coordinator) (*transactions, error) {
	ts := &transactions{
		opt: opt, limits: opt.Transactions.withDefaults(), log: opt.Store, groups: groups, budget: groups.budget,
		now: opt.steady,
	}
	ts.opened = ts.now()
	ts.measure(opt.Metrics)
	ts.mu.byID, ts.mu.byPID = map[string]*ownedTxn{}, map[int64]*ownedTxn{}
	ts.mu.pending, ts.mu.busy = map[string]map[partitionKey]int{}, map[*ownedTxn]struct{}{}
	err := ts.fold(ctx)
	if fault.Is(err, fault.Corrupt) {
		ts.damaged = err
		opt.Logger.Error("transactions are not served: their state is damaged", "error", err, "hint", fault.HintOf(err))
		return ts, nil
	}
	return ts, err
}

// register adds the APIs of transactions but InitProducerId.
func (ts *transactions) register(t table) {
	t.add(wire.AddPartitionsToTxn, handle(ts.addPartitionsToTxn))
	t.add(wire.AddOffsetsToTxn, handle(ts.addOffsetsToTxn))
	t.add(wire.EndTxn, handle(ts.endTxn))
	t.add(wire.WriteTxnMarkers, handle(ts.writeTxnMarkers))
	t.add(wire.TxnOffsetCommit, handle(ts.txnOffsetCommit))
	t.add(wire.DescribeProducers, handle(ts.describeProducers))
	t.add(wire.DescribeTransactions, handle(ts.describeTransactions))
	t.add(wire.ListTransactions, handle(ts.listTransactions))
}

// measure makes the metrics of transactions.
func (ts *transactions) measure(set *telemetry.Set) {
	ts.ended = set.Counter("firth_kafka_transactions_total", "Transactions that ended, by how: committed, aborted, "+
		"expired (it took longer than its producer said), fenced (another producer came with its transactional id).", "end")
	set.GaugeFunc("firth_kafka_transactional_ids", "Transactional ids that are known.", func() float64 {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		return float64(len(ts.mu.byID))
	})
	set.GaugeFunc("firth_kafka_open_transactions", "Transactions that have written records and have not ended.",
		func() float64 { return float64(len(ts.log.Transactions())) })
	set.GaugeFunc("firth_kafka_oldest_transaction_seconds",
		"Age of the oldest open transaction: who reads committed records waits for it. 0: there is none.", func() float64 {
			now, oldest := ts.now(), int64(0)
			for _, t := range ts.log.Transactions() {
				oldest = max(oldest, now-t.Began)
			}
			return float64(oldest) / 1000
		})
}

// fold reads all of __firth_transactions into memory, and has the log know the producers again.
func (ts *transactions) fold(ctx context.Context) error {
	topic := ts.log.Topics().ByName(transactionsTopic)
	if topic == nil || len(topic.Partitions) == 0 {
		return nil
	}
	values := map[string]txn.Txn{}
	bounds, err := ts.log.Bounds(topic.Partitions[0])
	if err != nil {
		return err
	}
	folded, err := stream.Fold(ctx, ts.log, topic.Partitions[0], bounds.Start, func(v *record.View) error {
		if v.Value == nil {
			delete(values, string(v.Key))
			return nil
		}
		value, err := txn.Decode(v.Value)
		if err == nil {
			values[string(v.Key)] = value
		}
		return err
	})
	if err == nil && (folded.Lost > 0 || folded.Strange > 0) {
		err = fault.New(fault.Corrupt, "kafka.transactions", "%d records are lost and %d not understood: %w",
			folded.Lost, folded.Strange, folded.First)
	}
	if err != nil {
		return fault.New(fault.KindOf(err), "kafka.transactions", "cannot read %s: %w", transactionsTopic, err).
			WithHint("run firth log check to see what is damaged")
	}
	for id, value := range values {
		ts.adopt(newOwnedTxn(id, value))
	}
	return nil
}

// adopt takes over an id that the log has.
func (ts *transactions) adopt(ot *ownedTxn) {
	value := ot.value.Load()
	ts.log.KnowProducer(value.ProducerID, value.Epoch)
	for _, p := range value.Announced.Partitions {
		if t := ts.log.Topics().ByName(p.Topic); t != nil && int(p.Index) < len(t.Partitions) {
			_ = ts.log.AddToTxn(value.ProducerID, value.Epoch, t.Partitions[p.Index]) // it is known, with this epoch
		}
	}
	ot.counted = value.Bytes()
	ts.budget.keep(ot.counted)
	ts.mu.byID[ot.id], ts.mu.byPID[value.ProducerID] = ot, ot
	ts.count(&value.Announced, 1)
	ts.note(ot)
}

// note notes whether an id has announced something. It needs the lock.
func (ts *transactions) note(ot *ownedTxn) {
	if ot.value.Load().Announced.Began > 0 && !ot.forgotten {
		ts.mu.busy[ot] = struct{}{}
	} else {
		delete(ts.mu.busy, ot)
	}
}

// count notes which offsets are pending. It needs the lock.
func (ts *transactions) count(a *txn.Announced, by int) {
	for i := range a.Offsets {
		o := &a.Offsets[i]
		of := ts.mu.pending[o.Group]
		if of == nil {
			of = map[partitionKey]int{}
			ts.mu.pending[o.Group] = of
		}
		key := partitionKey{o.Topic, o.Index}
		if of[key] += by; of[key] == 0 {
			delete(of, key)
		}
		if len(of) == 0 {
			delete(ts.mu.pending, o.Group)
		}
	}
}

// announce counts offsets as pending, or no longer, that are in no value; a may be nil.
func (ts *transactions) announce(a *txn.Announced, by int) {
	if a == nil {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.count(a, by)
}

// unstable lists the partitions for which a transaction that is under way will commit another offset of a group. To be
// asked before the offsets are looked at: of what is not in it, they are as the last transaction left them.
func (ts *transactions) unstable(group string) map[partitionKey]int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return maps.Clone(ts.mu.pending[group])
}

// find is an id, or nil.
func (ts *transactions) find(id string) *ownedTxn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.mu.byID[id]
}

// all lists the ids that there are now, in no order.
func (ts *transactions) all() []*ownedTxn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]*ownedTxn, 0, len(ts.mu.byID))
	for _, ot := range ts.mu.byID {
		all = append(all, ot)
	}
	return all
}

// underway lists the ids that have announced something, and those of some producers, in no order.
func (ts *transactions) underway(producers map[int64]seenTxn) []*ownedTxn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]*ownedTxn, 0, len(ts.mu.busy)+len(producers))
	for ot := range ts.mu.busy {
		all = append(all, ot)
	}
	for id := range producers {
		ot := ts.mu.byPID[id]
		if _, is := ts.mu.busy[ot]; ot != nil && !is {
			all = append(all, ot)
		}
	}
	return all
}

// forgetOffsets takes offsets of a group out of the transactions that would commit them: they are deleted.
func (ts *transactions) forgetOffsets(
	ctx context.Context, group string, goes func(topic string, index int32) bool,
) error {
	for _, ot := range ts.underway(nil) {
		ot, err := ts.enter(ctx, ot.id, false)
		if err != nil {
			return err
		}
		if ot == nil {
			continue
		}
		next, changed := ot.value.Load().ForgetOffsets(group, goes, ts.now())
		if !changed {
			ts.leave(ot)
		} else if err := ts.commit(ctx, &txnChange{ot: ot, next: next}); err != nil {
			return err
		}
	}
	return nil
}

// enter takes the turn of an id; commit or leave must follow. nil: there is no such id and, if it was to be made, there
// are too many. Errors: Closed, when ctx ends.
func (ts *transactions) enter(ctx context.Context, id string, create bool) (*ownedTxn, error) {
	for {
		ts.mu.Lock()
		ot := ts.mu.byID[id]
		if ot == nil && create && len(ts.mu.byID) < ts.limits.MaxIDs {
			ot = newOwnedTxn(id, txn.New())
			ts.mu.byID[id] = ot
		}
		ts.mu.Unlock()
		if ot == nil {
			return nil, nil
		}
		select {
		case <-ot.turn:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Closed, "kafka.transactions", ctx.Err())
		}
		if !ot.forgotten {
			return ot, nil
		}
		ot.turn <- struct{}{}
	}
}

// leave gives the turn back. An id that the log does not have is forgotten.
func (ts *transactions) leave(ot *ownedTxn) {
	if ot.value.Load().ProducerID == txn.NoProducer {
		ts.forget(ot)
	}
	ot.turn <- struct{}{}
}

// forget takes an id out of the map. It needs its turn.
func (ts *transactions) forget(ot *ownedTxn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ot.forgotten = true
	delete(ts.mu.byID, ot.id)
	delete(ts.mu.busy, ot)
	if value := ot.value.Load(); ts.mu.byPID[value.ProducerID] == ot {
		delete(ts.mu.byPID, value.ProducerID)
	}
}

// txnChange is a change of an id on its way into the log: a receipt.
type txnChange struct {
	ts     *transactions
	ot     *ownedTxn
	next   txn.Txn
	end    bool // the id is forgotten
	ends   []store.EndTxn
	how    string // it ends what is under way, by the metric's word; empty: it does not
	groups []*groupWrite
	early  *txn.Announced // offsets that were counted as pending before this was made
	done   chan error
}

// ends are what the log has to do when a transaction ends with this step: markers in the partitions that it wrote to,
// and nothing but the next epoch is accepted.
func endsOf(at, next *txn.Txn, commit bool) (all []store.EndTxn) {
	if at.ProducerID == next.ProducerID {
		return []store.EndTxn{{ProducerID: next.ProducerID, Epoch: next.Epoch, Commit: commit}}
	}
	if at.ProducerID != txn.NoProducer {
		all = append(all, store.EndTxn{ProducerID: at.ProducerID, Epoch: math.MaxInt16, Commit: commit})
	}
	return append(all, store.EndTxn{ProducerID: next.ProducerID, Epoch: next.Epoch})
}

// commit writes a change of an id whose turn the caller has, and waits until it is in force: the turn is given back
// then, however long the caller waits. Errors: those of store.Commit; Limited; Closed, when ctx ends.
func (ts *transactions) commit(ctx context.Context, ch *txnChange) error {
	ch.ts, ch.done = ts, make(chan error, 1)
	grown := ch.next.Bytes() - ch.ot.counted
	if grown > 0 && !ts.budget.reserve(ch.ot.counted, grown) {
		err := fault.New(fault.Limited, "kafka.transactions", "transactions take all the memory that they may have").
			WithHint("raise limits.kafka_bytes")
		ch.fail(err)
		return err
	}
	if grown > 0 {
		ch.ot.counted += grown
	}
	u, err := ts.unit(ctx, ch)
	if err == nil {
		err = ts.log.CommitWait(ctx, u, ch, 0)
	}
	if err != nil {
		ch.fail(err)
		return err
	}
	select {
	case err := <-ch.done:
		return err
	case <-ctx.Done():
		return fault.Wrap(fault.Closed, "kafka.transactions", ctx.Err())
	}
}

// unit is all that a change writes.
func (ts *transactions) unit(ctx context.Context, ch *txnChange) (*store.Unit, error) {
	p, err := ts.partition(ctx)
	if err != nil {
		return nil, err
	}
	r := &record.Record{Timestamp: ts.now(), Key: []byte(ch.ot.id)}
	if !ch.end {
		r.Value = ch.next.Encode()
	}
	u := &store.Unit{Unit: stream.Unit{Writes: []stream.Write{{Partition: p, Record: r}}}, Ends: ch.ends}
	if len(ch.groups) == 0 {
		return u, nil
	}
	if p, err = ts.groups.writer.partition(ctx); err != nil {
		return nil, err
	}
	var offsets encoded
	for _, gw := range ch.groups {
		if err := offsets.add(gw, ts.groups.now()); err != nil {
			return nil, err
		}
	}
	u.Writes = append(u.Writes, offsets.to(p)...)
	return u, nil
}

// partition is where the ids are stored; the topic is made when the first one needs it.
func (ts *transactions) partition(ctx context.Context) (stream.PartitionID, error) {
	t, err := stream.EnsureState(ctx, ts.log, transactionsTopic)
	if err != nil {
		return 0, err
	}
	return t.Partitions[0], nil
}

// Appended is the receipt of the log.
func (ch *txnChange) Appended(_ uint64, _ stream.Placed, err error) {
	ts := ch.ts
	ts.groups.guarded("receipt of a transaction", func() {
		if err != nil {
			ch.fail(err)
		} else {
			ch.apply()
		}
	})
	ch.done <- err
}

// apply puts the change in force, and gives the turn back.
func (ch *txnChange) apply() {
	ts, ot := ch.ts, ch.ot
	at := ot.value.Load()
	for _, gw := range ch.groups { // before they are no longer pending: who finds them stable finds them
		ts.groups.wrote(gw, nil)
	}
	ts.mu.Lock()
	ts.count(&at.Announced, -1)
	if ts.mu.byPID[at.ProducerID] == ot {
		delete(ts.mu.byPID, at.ProducerID)
	}
	if !ch.end {
		ts.count(&ch.next.Announced, 1)
		ts.mu.byPID[ch.next.ProducerID] = ot
		ot.value.Store(&ch.next)
	}
	ts.note(ot)
	ts.mu.Unlock()
	ts.announce(ch.early, -1)
	if ch.how != "" {
		ts.ended.With(ch.how).Inc()
	}
	left := ch.next.Bytes()
	if ch.end {
		left = 0
		ts.forget(ot)
	}
	ts.budget.keep(left - ot.counted)
	ot.counted = left
	ts.leave(ot)
}

// fail takes a change back, and gives the turn back.
func (ch *txnChange) fail(err error) {
	ts, ot := ch.ts, ch.ot
	for _, gw := range ch.groups {
		ts.groups.wrote(gw, err)
	}
	ts.announce(ch.early, -1)
	had := ot.value.Load().Bytes()
	if ot.value.Load().ProducerID == txn.NoProducer {
		had = 0
	}
	ts.budget.keep(had - ot.counted)
	ot.counted = had
	ts.leave(ot)
}

// offsetsOf makes the writes of the groups whose offsets a transaction commits. They count as under way from here on.
// Errors: Limited, with too many groups.
func (ts *transactions) offsetsOf(a *txn.Announced) ([]*groupWrite, error) {
	now := ts.groups.now()
	var all []*groupWrite
	for _, id := range a.GroupsOf() {
		og := ts.groups.enter(id, true)
		if og == nil {
			for _, gw := range all {
				ts.groups.wrote(gw, errTooManyGroups)
			}
			return nil, errTooManyGroups
		}
		gw := &groupWrite{og: og}
		for i := range a.Offsets {
			if o := &a.Offsets[i]; o.Group == id {
				value := &committed{Offset: offsetIn(o, now), topicID: o.TopicID}
				gw.offsets = append(gw.offsets, offsetChange{partitionKey{o.Topic, o.Index}, value})
			}
		}
		og.mu.flying[gw] = struct{}{}
		ts.groups.release(og)
		all = append(all, gw)
	}
	return all, nil
}

var errTooManyGroups = fault.New(fault.Limited, "kafka.transactions", "there are too many groups")

// fencedCode is a code as versions before one know it: they have no PRODUCER_FENCED (KIP-588).
func fencedCode(code wire.Code, version, since int16) wire.Code {
	if code == wire.ProducerFenced && version < since {
		return wire.InvalidProducerEpoch
	}
	return code
}

// mayTxn judges a transactional id and the right to it; wire.None: go on.
func (ts *transactions) mayTxn(c *conn, op Operation, id string) wire.Code {
	switch {
	case id == "" || len(id) > maxTransactionalID:
		return wire.InvalidRequest
	case !ts.groups.may(c, op, OnTransactional, id):
		return wire.TransactionalIDAuthorizationFailed
	}
	return ts.available()
}

// available tells whether transactions are served at all; wire.None: they are.
func (ts *transactions) available() wire.Code {
	if ts.damaged != nil {
		return wire.CoordinatorNotAvailable
	}
	return wire.None
}

// producerOf tells whether a producer id is that of a transactional id now.
func (ts *transactions) producerOf(id string, producerID int64) bool {
	ot := ts.find(id)
	return ot != nil && ot.value.Load().ProducerID == producerID
}
