package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (22): v0-5.
//
// Behaviour
//   - An idempotent producer gets an id that nobody had before, with epoch 0, also if it comes back with
//     one of its own (KIP-360): as in Kafka, only transactional producers keep their id.
//   - A transactional producer gets the next epoch of its transactional id: what was under way is aborted, and
//     whoever had the id before is fenced in every partition, in one frame of the log. It is answered when that
//     is on stable storage.
//   - One that comes back names the id and epoch that it had (KIP-360): it is fenced if another took over meanwhile,
//     and told the same once more if it asks once more. An id without epochs left gets another producer id.
//   - An empty transactional id is INVALID_REQUEST, a timeout beyond the node's INVALID_TRANSACTION_TIMEOUT.
//
// Versions: 2 flexible, 3 id and epoch of a producer that comes back, 4 PRODUCER_FENCED (KIP-588), 5 KIP-890.

// initProducerID answers InitProducerId.
func (d *Door) initProducerID(
	ctx context.Context, c *conn, req *kmsg.InitProducerIDRequest,
) (*kmsg.InitProducerIDResponse, error) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = wire.InvalidRequest
	case req.TransactionalID != nil:
		d.txns.initProducer(ctx, c, req, resp)
	case !d.mayBeIdempotent(c):
		resp.ErrorCode = wire.ClusterAuthorizationFailed
	default:
		id, err := d.log.NewProducerID(ctx)
		if err != nil {
			resp.ErrorCode = code(err)
			break
		}
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	return resp, nil
}

// initProducer answers one with a transactional id.
func (ts *transactions) initProducer(
	ctx context.Context, c *conn, req *kmsg.InitProducerIDRequest, resp *kmsg.InitProducerIDResponse,
) {
	id := *req.TransactionalID
	resp.ErrorCode = ts.mayTxn(c, OpWrite, id)
	timeout := int64(req.TransactionTimeoutMillis)
	if resp.ErrorCode == wire.None && (timeout <= 0 || timeout > ts.limits.MaxTimeout.Milliseconds()) {
		resp.ErrorCode = wire.InvalidTransactionTimeout
	}
	if resp.ErrorCode != wire.None {
		return
	}
	who := txn.Who{ProducerID: txn.NoProducer, Epoch: txn.NoEpoch}
	if req.Version >= 3 {
		who = txn.Who{ProducerID: req.ProducerID, Epoch: req.ProducerEpoch}
	}
	value, code := ts.init(ctx, id, who, req.TransactionTimeoutMillis)
	if resp.ErrorCode = fencedCode(code, req.Version, 4); code == wire.None {
		resp.ProducerID, resp.ProducerEpoch = value.ProducerID, value.Epoch
	}
}

// init gives a transactional id to a producer.
func (ts *transactions) init(ctx context.Context, id string, who txn.Who, timeoutMillis int32) (txn.Txn, wire.Code) {
	ot, err := ts.enter(ctx, id, true)
	if ot == nil || err != nil {
		return txn.Txn{}, wire.CoordinatorNotAvailable
	}
	at := ot.value.Load()
	fresh := txn.NoProducer
	if at.Exhausted() {
		if fresh, err = ts.log.NewProducerID(ctx); err != nil {
			ts.leave(ot)
			return txn.Txn{}, fate(err)
		}
	}
	next, repeated, code := at.Init(who, timeoutMillis, fresh, ts.now())
	if repeated || code != wire.None {
		ts.leave(ot)
		return next, code
	}
	ch := &txnChange{ot: ot, next: next, ends: endsOf(at, &next, false)}
	if _, open := ts.log.Transaction(at.ProducerID); at.Underway(open) {
		ch.how = "fenced"
	}
	err = ts.commit(ctx, ch)
	return next, fate(err)
}
