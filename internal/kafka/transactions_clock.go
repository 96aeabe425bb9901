package kafka

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/store"
)

// txnLook is how often transactions that take too long are looked for.
const txnLook = time.Second

// run aborts transactions that take longer than their producers said, and forgets ids that nobody uses, until ctx ends.
func (ts *transactions) run(ctx context.Context) {
	ts.groups.guarded("transactions of nobody", func() { ts.abortOrphans(ctx) })
	if ts.damaged != nil {
		return
	}
	look := time.NewTicker(txnLook)
	defer look.Stop()
	for sweepAt := ts.now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		ts.groups.guarded("time of the transactions", func() { ts.expire(ctx) })
		if now := ts.now(); now >= sweepAt {
			sweepAt = now + time.Minute.Milliseconds()
			ts.groups.guarded("sweep of the transactional ids", func() { ts.sweep(ctx) })
		}
	}
}

// abortOrphans aborts what producers have under way that no transactional id has: what was lost of them must not hold
// readers back for ever. Where the ids cannot be read that is all that is open: nobody could end it.
func (ts *transactions) abortOrphans(ctx context.Context) {
	for _, open := range ts.log.Transactions() {
		ts.mu.Lock()
		ot := ts.mu.byPID[open.ProducerID]
		ts.mu.Unlock()
		if ot != nil {
			continue
		}
		ts.opt.Logger.Warn("kafka: a transaction that belongs to no transactional id is aborted",
			"producer", open.ProducerID, "epoch", open.Epoch, "partitions", len(open.Partitions))
		u := &store.Unit{Ends: []store.EndTxn{{ProducerID: open.ProducerID, Epoch: open.Epoch}}}
		if err := ts.log.CommitWait(ctx, u, nil, 0); err != nil {
			ts.report("an orphaned transaction could not be aborted", err)
		}
	}
}

// seenTxn is a transaction that the clock has seen in the log.
type seenTxn struct {
	began int64 // as the log tells it: by the wall clock, which may be set meanwhile
	seen  int64 // as now told when it was seen first
}

// expire aborts what takes too long.
func (ts *transactions) expire(ctx context.Context) {
	now, was := ts.now(), ts.seen
	ts.seen = make(map[int64]seenTxn)
	for _, t := range ts.log.Transactions() {
		one := seenTxn{began: t.Began, seen: now}
		if before, is := was[t.ProducerID]; is && before.began == t.Began {
			one = before
		}
		ts.seen[t.ProducerID] = one
	}
	for _, ot := range ts.underway(ts.seen) {
		value := ot.value.Load()
		if _, open := ts.seen[value.ProducerID]; ts.late(value, open, now) {
			ts.abort(ctx, ot, now)
		}
	}
}

// late tells whether the transaction under way takes longer than its producer said. open: the log has records of it. A
// restart begins the time anew.
func (ts *transactions) late(value *txn.Txn, open bool, now int64) bool {
	since := map[int64]int64{}
	if one, is := ts.seen[value.ProducerID]; is && open {
		since[value.ProducerID] = one.seen
	}
	began := beganOf(value, since)
	return began > 0 && now-max(began, ts.opened) > int64(value.TimeoutMillis)
}

// beganOf is when the transaction under way began, unix milliseconds; 0: there is none.
func beganOf(value *txn.Txn, open map[int64]int64) int64 {
	began, is := open[value.ProducerID]
	if !is {
		return value.Announced.Began
	}
	if a := value.Announced.Began; a > 0 {
		return min(began, a)
	}
	return began
}

// abort aborts the transaction of an id because it took too long, if it is still under way.
func (ts *transactions) abort(ctx context.Context, ot *ownedTxn, now int64) {
	ot, err := ts.enter(ctx, ot.id, false)
	if ot == nil || err != nil {
		return
	}
	at := ot.value.Load()
	open, is := ts.log.Transaction(at.ProducerID)
	same := !is || ts.seen[at.ProducerID].began == open.Began // else it is another one by now
	fresh := txn.NoProducer
	if at.Exhausted() {
		fresh, err = ts.log.NewProducerID(ctx)
	}
	if !same || !ts.late(at, is, now) || err != nil {
		ts.leave(ot)
		return
	}
	next := at.Expire(fresh, now)
	ts.opt.Logger.Warn("kafka: a transaction took too long and is aborted", "transactional_id", ot.id,
		"producer", at.ProducerID, "epoch", at.Epoch, "timeout", time.Duration(at.TimeoutMillis)*time.Millisecond)
	if err := ts.commit(ctx, &txnChange{ot: ot, next: next, ends: endsOf(at, &next, false), how: "expired"}); err != nil {
		ts.report("a transaction that took too long could not be aborted", err)
	}
}

// sweep forgets the ids that nobody has used for long.
func (ts *transactions) sweep(ctx context.Context) {
	before := ts.now() - ts.limits.IDExpiry.Milliseconds()
	for _, ot := range ts.all() {
		if value := ot.value.Load(); value.Updated >= before {
			continue
		}
		ot, err := ts.enter(ctx, ot.id, false)
		if ot == nil || err != nil {
			continue
		}
		at := ot.value.Load()
		if _, open := ts.log.Transaction(at.ProducerID); at.Updated >= before || at.Underway(open) {
			ts.leave(ot)
			continue
		}
		// Its producer is fenced with it: what it wrote in this very moment is aborted, and not open for ever.
		ends := []store.EndTxn{{ProducerID: at.ProducerID, Epoch: math.MaxInt16}}
		if err := ts.commit(ctx, &txnChange{ot: ot, next: *at, end: true, ends: ends}); err != nil {
			ts.report("a transactional id could not be forgotten", err)
			continue
		}
		ts.log.ForgetProducer(at.ProducerID)
	}
}

// report logs what the clock could not do: it is tried again.
func (ts *transactions) report(what string, err error) {
	if !fault.Is(err, fault.Closed) && !errors.Is(err, context.Canceled) {
		ts.opt.Logger.Warn("kafka: "+what+"; it is tried again", "error", err)
	}
}
