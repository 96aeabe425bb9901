package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndTxn (26): v0-5.
//
// Behaviour
//   - The markers in all partitions that the producer wrote to, the offsets of groups and the state of the
//     transactional id are one frame of the log: nobody ever sees a part of it, whatever happens. It is answered when
//     that is on stable storage, and readers of committed records see it before.
//   - From version 5 on (KIP-890) the producer goes on with the next epoch, which the answer names: what is still on
//     its way of the old one cannot get into the next transaction.
//   - Asked once more it is answered once more; to commit what was aborted, or to end what never began, is
//     INVALID_TXN_STATE.
//
// Versions: 2 PRODUCER_FENCED, 3 flexible, 4 TRANSACTION_ABORTABLE, 5 the next epoch.

// endTxn answers EndTxn.
func (ts *transactions) endTxn(
	ctx context.Context, c *conn, req *kmsg.EndTxnRequest,
) (*kmsg.EndTxnResponse, error) {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.ProducerID, resp.ProducerEpoch = txn.NoProducer, txn.NoEpoch
	if resp.ErrorCode = ts.mayTxn(c, OpWrite, req.TransactionalID); resp.ErrorCode != wire.None {
		return resp, nil
	}
	who := txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
	value, code := ts.end(ctx, req.TransactionalID, who, txn.End{Commit: req.Commit, Bump: req.Version >= 5})
	if resp.ErrorCode = fencedCode(code, req.Version, 2); code == wire.None && req.Version >= 5 {
		resp.ProducerID, resp.ProducerEpoch = value.ProducerID, value.Epoch
	}
	return resp, nil
}

// end ends the transaction of an id.
func (ts *transactions) end(ctx context.Context, id string, who txn.Who, e txn.End) (txn.Txn, wire.Code) {
	ot, err := ts.enter(ctx, id, false)
	if ot == nil || err != nil {
		return txn.Txn{}, wire.InvalidProducerIDMapping
	}
	at := ot.value.Load()
	_, e.Open = ts.log.Transaction(at.ProducerID)
	e.Now = ts.now()
	if e.Fresh = txn.NoProducer; e.Bump && at.Exhausted() {
		if e.Fresh, err = ts.log.NewProducerID(ctx); err != nil {
			ts.leave(ot)
			return txn.Txn{}, fate(err)
		}
	}
	next, repeated, code := at.End(who, e)
	if repeated || code != wire.None {
		ts.leave(ot)
		return next, code
	}
	ch := &txnChange{ot: ot, next: next, ends: endsOf(at, &next, e.Commit), how: "aborted"}
	if e.Commit {
		ch.how = "committed"
		if ch.groups, err = ts.offsetsOf(&at.Announced); err != nil {
			ts.leave(ot)
			return txn.Txn{}, fate(err)
		}
	}
	return next, fate(ts.commit(ctx, ch))
}
